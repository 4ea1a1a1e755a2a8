// SPDX-License-Identifier: Apache-2.0
#include "train/report.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace train {

using namespace dtensor;

namespace {

template <class... A>
std::string format(const char* pattern, A... arguments) {
  std::string text(static_cast<std::size_t>(std::snprintf(nullptr, 0, pattern, arguments...)) + 1, '\0');
  std::snprintf(text.data(), text.size(), pattern, arguments...);
  text.pop_back();
  return text;
}

}  // namespace

std::string bytes_text(std::int64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (b < 1024) return format("%.0f B", b);
  if (b < 1024 * 1024) return format("%.1f KiB", b / 1024);
  if (b < 1024.0 * 1024 * 1024) return format("%.1f MiB", b / (1024 * 1024));
  return format("%.1f GiB", b / (1024.0 * 1024 * 1024));
}

Progress::Progress(World& world, std::int64_t first, std::int64_t last, std::int64_t tokens_per_step)
    : world_(world), first_(first), last_(last), tokens_(tokens_per_step), terminal_(isatty(STDERR_FILENO) == 1) {}

double Progress::seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

void Progress::show(std::int64_t step, double loss, std::int64_t bytes_received) {
  done_ = step - first_;
  if (world_.rank() != 0) return;
  const std::string line =
      format("step %lld/%lld  loss %.4f  %.0f tokens/s  %s/step received per rank", static_cast<long long>(step), static_cast<long long>(last_), loss,
             static_cast<double>(done_ * tokens_) / seconds(), bytes_text(bytes_received).c_str());
  if (terminal_) {
    constexpr std::int64_t kWidth = 24;
    const std::int64_t filled = last_ > 0 ? kWidth * step / last_ : kWidth;
    std::fprintf(stderr, "\r[%s%s] %s\033[K", std::string(static_cast<std::size_t>(filled), '#').c_str(),
                 std::string(static_cast<std::size_t>(kWidth - filled), '.').c_str(), line.c_str());
    return;
  }
  const std::int64_t every = std::max<std::int64_t>(1, (last_ - first_) / 15);
  if (done_ == 1 || step == last_ || done_ % every == 0) world_.print({line});
}

double Progress::finish() {
  if (world_.rank() == 0 && terminal_ && done_ > 0) std::fputs("\n", stderr);
  return static_cast<double>(done_ * tokens_) / seconds();
}

std::string loss_svg(const std::vector<Point>& points, double validation) {
  constexpr double kLeft = 60, kTop = 40, kWidth = 620, kHeight = 300;
  double low = validation, high = validation;
  for (const Point& p : points) {
    low = std::min(low, p.loss);
    high = std::max(high, p.loss);
  }
  const double unit = high - low > 2 ? 1 : 0.5;
  low = std::floor(low / unit) * unit;
  high = std::max(std::ceil(high / unit) * unit, low + unit);
  const std::int64_t first = points.empty() ? 0 : points.front().step, last = points.empty() ? 1 : std::max(points.back().step, first + 1);
  const auto x = [&](std::int64_t step) { return kLeft + kWidth * static_cast<double>(step - first) / static_cast<double>(last - first); };
  const auto y = [&](double loss) { return kTop + kHeight * (high - loss) / (high - low); };
  std::string svg = format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"400\" viewBox=\"0 0 720 400\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"720\" height=\"400\" fill=\"white\"/>\n<text x=\"%g\" y=\"24\" font-size=\"15\">training loss (nats per byte), validation "
      "%.4f</text>\n",
      kLeft, validation);
  for (double loss = low; loss <= high + 1e-9; loss += unit)
    svg += format("<line x1=\"%g\" y1=\"%.1f\" x2=\"%g\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                  kLeft, y(loss), kLeft + kWidth, y(loss), kLeft - 8, y(loss) + 4, loss);
  for (int i = 0; i <= 4; ++i) {
    const std::int64_t step = first + (last - first) * i / 4;
    svg += format("<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%lld</text>\n", x(step), kTop + kHeight + 20, static_cast<long long>(step));
  }
  svg += format("<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">step</text>\n", kLeft + kWidth / 2, kTop + kHeight + 40);
  svg += format("<line x1=\"%g\" y1=\"%.1f\" x2=\"%g\" y2=\"%.1f\" stroke=\"#c33\" stroke-dasharray=\"5 4\"/>\n", kLeft, y(validation),
                kLeft + kWidth, y(validation));
  svg += "<polyline fill=\"none\" stroke=\"#06c\" stroke-width=\"1.5\" points=\"";
  for (const Point& p : points) svg += format("%.1f,%.1f ", x(p.step), y(p.loss));
  return svg + "\"/>\n</svg>\n";
}

}  // namespace train
