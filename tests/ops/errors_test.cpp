// SPDX-License-Identifier: Apache-2.0
// The error table: for every op a call of bad shapes, one of a bad attribute and one of a bad dtype, with the text that each throws on every rank of sharded
// inputs. Rows are data in errors/*.txt; what follows from the signature alone is worked out here.
#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"
#include "tensor/signature.h"

using namespace dtensor;

namespace {

using Parts = std::vector<std::string>;
std::string trim(const std::string& s) {
  const auto from = s.find_first_not_of(' ');
  return from == std::string::npos ? "" : s.substr(from, s.find_last_not_of(' ') - from + 1);
}
// Splits at `separator` outside brackets.
Parts split(const std::string& s, char separator) {
  Parts parts(1);
  int depth = 0;
  for (const char c : s) {
    depth += c == '[' ? 1 : c == ']' ? -1 : 0;
    if (c == separator && depth == 0) parts.emplace_back();
    else parts.back() += c;
  }
  for (std::string& p : parts) p = trim(p);
  if (parts.size() == 1 && parts[0].empty()) parts.clear();
  return parts;
}

// A row of errors/<what>.txt: "op op | inputs; attributes | text without the op's name", or "op op | - | why every call is fine".
struct Row {
  std::string op, call, text;
  bool reason() const { return call == "-"; }
};
std::vector<Row> rows_of(const std::string& what) {
  std::ifstream file(std::string(DTENSOR_SOURCE_DIR) + "/tests/ops/errors/" + what + ".txt");
  REQUIRE_MESSAGE(file.good(), what);
  std::vector<Row> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const Parts columns = split(line, '|');
    REQUIRE_MESSAGE(columns.size() == 3, line);
    for (const std::string& op : split(columns[0], ' '))
      rows.push_back({op, columns[1], columns[2].substr(0, 1) == "!" ? columns[2].substr(1) : op + ": " + columns[2]});
  }
  return rows;
}

// A call from its text: "f32[4, 6], none, i64[3]; dim=1, shape=[2, 3]".
struct Call {
  std::vector<DTensor> inputs;
  std::vector<Attribute> attributes;
  std::deque<std::vector<std::int64_t>> lists;
  std::deque<std::string> texts;
};
Shape shape_of(const std::string& text) {
  Shape shape;
  for (const std::string& n : split(text.substr(1, text.size() - 2), ',')) shape.push_back(std::stoll(n));
  return shape;
}
// Split over the first axis in turns along the first and the last dim, over a second axis along the last.
DTensor sharded(const Shape& shape, Dtype dtype, const DeviceMesh& mesh, std::size_t turn) {
  std::vector<Placement> placements;
  for (int a = 0; a < mesh.ndim(); ++a) {
    const int dim = a == 0 && turn % 2 == 0 ? 0 : shape.ndim() - 1;
    placements.push_back(shape.empty() ? Placement(Replicate()) : Placement(Shard(dim)));
  }
  return zeros(shape, mesh, Placements(std::span<const Placement>(placements)), {.dtype = dtype});
}
void read_call(const OpDef& op, const std::string& text, const DeviceMesh& mesh, Call& call) {
  const tensor::Signature s = tensor::parse_signature(op);
  const auto semicolon = text.find(';');
  for (const std::string& input : split(trim(text.substr(0, semicolon)), ',')) {
    const auto bracket = input.find('[');
    call.inputs.push_back(
        input == "none" ? DTensor() : sharded(shape_of(input.substr(bracket)), parse_dtype(input.substr(0, bracket)), mesh, call.inputs.size()));
  }
  for (const auto& a : s.attributes) {
    Attribute value = a.fallback;
    if (value.kind() == Attribute::Kind::text) value = std::string_view(call.texts.emplace_back(value.as_text()));
    if (value.kind() == Attribute::Kind::list)
      value = std::span<const std::int64_t>(call.lists.emplace_back(value.as_list().begin(), value.as_list().end()));
    call.attributes.push_back(value);
  }
  if (semicolon == std::string::npos) return;
  Parts attributes;
  for (const std::string& part : split(text.substr(semicolon + 1), ',')) {
    if (part.find('=') != std::string::npos) attributes.push_back(part);
    else attributes.back() += "," + part;  // a text with commas
  }
  for (const std::string& named : attributes) {
    const auto equals = named.find('=');
    const auto it = std::find_if(s.attributes.begin(), s.attributes.end(), [&](const auto& a) { return a.name == named.substr(0, equals); });
    REQUIRE_MESSAGE(it != s.attributes.end(), text);
    call.attributes[static_cast<std::size_t>(it - s.attributes.begin())] =
        tensor::parse_attribute(op.name, *it, named.substr(equals + 1), call.lists, call.texts);
  }
}
void run_call(const OpDef& op, const Call& call, const DeviceMesh& mesh) {
  std::vector<Input> inputs;
  for (const DTensor& t : call.inputs) inputs.emplace_back(t);
  if (op.plan == nullptr && inputs.empty()) call_on(op, mesh, {{"dp", Shard(0)}}, {}, call.attributes);
  else call_all(op, inputs, call.attributes);
}

// What each rank reads of each row, and whether ranks still add up after it.
template <class F>
std::vector<Parts> texts_on(const std::vector<int>& sizes, std::size_t count, const F& row) {
  int ranks = 1;
  for (const int n : sizes) ranks *= n;
  std::vector<Parts> texts(static_cast<std::size_t>(ranks), Parts(count));
  run_ranks({.ranks = ranks, .time_limit_s = 120, .threads_per_rank = 1}, [&](World& world) {
    std::vector<MeshAxis> axes{{"dp", sizes[0]}};
    if (sizes.size() > 1) axes.push_back({"tp", sizes[1]});
    const DeviceMesh mesh = world.mesh(axes);
    for (std::size_t i = 0; i < count; ++i) {
      std::string& text = texts[static_cast<std::size_t>(world.rank())][i];
      try {
        row(i, mesh);
        text = "nothing is thrown";
      } catch (const InvalidArgument& e) { text = e.what(); } catch (const std::exception& e) {
        text = std::string("no InvalidArgument: ") + e.what();
      }
      const std::vector<Placement> each(sizes.size(), Placement(Shard(0)));
      const DTensor one = full({ranks}, 1, mesh, Placements(std::span<const Placement>(each)));
      if (sum(one).item<int>() != ranks) text += "; then the ranks do not add up";
    }
  });
  return texts;
}
const std::vector<std::vector<int>> kMeshes{{2}, {2, 2}};

void check_rows(const std::string& what) {
  std::vector<Row> rows = rows_of(what);
  std::erase_if(rows, [](const Row& r) { return r.reason(); });
  for (const auto& mesh : kMeshes) {
    const auto texts = texts_on(mesh, rows.size(), [&](std::size_t i, const DeviceMesh& m) {
      const OpDef& op = find_op(rows[i].op);
      Call call;
      read_call(op, rows[i].call, m, call);
      run_call(op, call, m);
    });
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (const Parts& rank : texts) {
        INFO(rows[i].op << "(" << rows[i].call << ") on " << (mesh.size() == 1 ? "2" : "2x2"));
        CHECK(rank[i] == rows[i].text);
      }
  }
}

struct Derived {
  const OpDef* op;
  std::function<void(const DeviceMesh&)> run;
  std::string text;
};
void check_derived(const std::vector<Derived>& list) {
  for (const auto& mesh : kMeshes) {
    const auto texts = texts_on(mesh, list.size(), [&](std::size_t i, const DeviceMesh& m) { list[i].run(m); });
    for (std::size_t i = 0; i < list.size(); ++i)
      for (const Parts& rank : texts) CHECK(rank[i] == list[i].text);
  }
}
DTensor matrix(const DeviceMesh& mesh, Dtype dtype = Dtype::f32) { return sharded({4, 6}, dtype, mesh, 0); }
std::string quoted(const OpDef& op) { return "the signature is \"" + std::string(op.signature) + "\""; }
std::string start(const OpDef& op) { return std::string(op.name) + ": "; }
bool takes_some_dtypes(const OpDef& op) { return !op.dtypes.empty() && op.dtypes != "any"; }
Dtype dtype_outside(std::string_view dtypes) {
  for (const Dtype d : {Dtype::i64, Dtype::boolean, Dtype::bf16, Dtype::f32}) {
    const bool inside = dtypes == "floating"   ? info(d).floating
                        : dtypes == "number"   ? d != Dtype::boolean
                        : dtypes == "integral" ? info(d).integral
                                               : dtypes.find(info(d).name) != std::string::npos;
    if (!inside) return d;
  }
  FAIL("no dtype is outside of " << dtypes);
  return Dtype::f32;
}

}  // namespace

TEST_CASE("every op has an error of a shape, an attribute and a dtype in the table, or a reason why it has none") {
  for (const std::string what : {"shapes", "attributes", "dtypes"}) {
    std::set<std::string> here, reasons;
    for (const Row& r : rows_of(what)) {
      (r.reason() ? reasons : here).insert(r.op);
      CHECK_NOTHROW(find_op(r.op));
    }
    for (const OpDef* op : all_ops()) {
      const std::string name(op->name);
      const tensor::Signature s = tensor::parse_signature(*op);
      const bool wanted = what == "attributes" ? !s.attributes.empty() : !s.inputs.empty() && (what == "shapes" || !takes_some_dtypes(*op));
      INFO(what << " of " << name);
      CHECK((!wanted || here.count(name) + reasons.count(name) == 1));
    }
  }
}

TEST_CASE("bad shapes are refused by text on every rank, and the world goes on") { check_rows("shapes"); }
TEST_CASE("bad attributes are refused by text on every rank, and the world goes on") { check_rows("attributes"); }
TEST_CASE("bad dtypes are refused by text on every rank, and the world goes on") { check_rows("dtypes"); }

TEST_CASE("every op that takes some dtypes refuses another one by name") {
  std::vector<Derived> list;
  for (const OpDef* op : all_ops()) {
    const tensor::Signature s = tensor::parse_signature(*op);
    if (!takes_some_dtypes(*op) || s.inputs.empty() || op->plan != nullptr) continue;
    const Dtype dtype = dtype_outside(op->dtypes);
    const auto run = [op, s, dtype](const DeviceMesh& mesh) {
      Call call;
      read_call(*op, "", mesh, call);
      for (std::size_t i = 0; i < s.attributes.size(); ++i) {
        static const std::int64_t kList[] = {0};
        using Type = tensor::AttributeType;
        const Type type = s.attributes[i].type;
        if (!call.attributes[i].is_none() || s.attributes[i].optional || s.attributes[i].has_default) continue;
        call.attributes[i] = type == Type::list    ? Attribute(std::span<const std::int64_t>(kList))
                             : type == Type::dtype ? Attribute(Dtype::f32)
                             : type == Type::text  ? Attribute("sum")
                                                   : Attribute(1);
      }
      for (std::size_t i = 0; i < s.inputs.size(); ++i) call.inputs.push_back(matrix(mesh, dtype));
      // The text names the placements; without those it is the same on every mesh.
      try {
        run_call(*op, call, mesh);
      } catch (const InvalidArgument& e) {
        std::string text = e.what();
        const auto from = text.find('{'), to = text.find('}');
        if (from != std::string::npos && to != std::string::npos) text.erase(from, to - from + 1);
        throw InvalidArgument(text);
      }
    };
    list.push_back(
        {op, run, start(*op) + "'" + s.inputs[0].name + "' is " + to_string(dtype) + "[4, 6]; supported dtypes: " + std::string(op->dtypes)});
  }
  CHECK(list.size() > 100);
  check_derived(list);
}

TEST_CASE("an attribute that an op does not have is refused with its signature") {
  std::vector<Derived> list;
  for (const OpDef* op : all_ops()) {
    const auto run = [op](const DeviceMesh& mesh) {
      const DTensor x = matrix(mesh);
      const Input inputs[] = {x};
      const std::pair<std::string_view, Attribute> attributes[] = {{"colour", 1}};
      call_named(*op, inputs, attributes);
    };
    list.push_back({op, run, start(*op) + "no attribute 'colour'; " + quoted(*op)});
  }
  check_derived(list);
}

TEST_CASE("inputs beyond those of the signature are refused with it") {
  std::vector<Derived> list;
  for (const OpDef* op : all_ops()) {
    const tensor::Signature s = tensor::parse_signature(*op);
    if (!s.inputs.empty() && s.inputs.back().variadic) continue;
    const auto run = [op, s](const DeviceMesh& mesh) {
      const std::vector<DTensor> tensors(s.inputs.size() + 1, matrix(mesh));
      const std::vector<Input> inputs(tensors.begin(), tensors.end());
      const std::vector<Attribute> attributes(s.attributes.size());
      call_all(*op, inputs, attributes);
    };
    const std::string n = std::to_string(s.inputs.size());
    list.push_back({op, run, start(*op) + std::to_string(s.inputs.size() + 1) + " inputs given for " + n + "; " + quoted(*op)});
  }
  check_derived(list);
}

TEST_CASE("an attribute of another kind than declared is refused with its name") {
  std::vector<Derived> list;
  for (const OpDef* op : all_ops()) {
    const tensor::Signature s = tensor::parse_signature(*op);
    if (s.attributes.empty()) continue;
    const bool text = s.attributes[0].type == tensor::AttributeType::text;
    const auto run = [op, s, text](const DeviceMesh& mesh) {
      Call call;
      for (std::size_t i = 0; i < s.inputs.size(); ++i) call.inputs.push_back(matrix(mesh));
      call.attributes.assign(s.attributes.size(), Attribute());
      call.attributes[0] = text ? Attribute(1) : Attribute("one");
      run_call(*op, call, mesh);
    };
    list.push_back({op, run, start(*op) + "attribute '" + s.attributes[0].name + "' has the wrong kind; " + quoted(*op)});
  }
  check_derived(list);
}
