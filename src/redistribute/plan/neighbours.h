// SPDX-License-Identifier: Apache-2.0
// The moves that leave a layout. Several axes may go in one move.
#pragma once

#include <functional>
#include <vector>

#include "redistribute/plan/search.h"

namespace dtensor::redistribute {

/// The source's splits and contributions replaced in one step; where `to` is Partial and `from` is not of that kind the result is Replicate on that axis.
Step direct_step(const Space& space, const State& from, const State& to);

/// Calls visit for every move from `state` that communicates nothing and may serve on the way to `goal`. Figures are left 0.
///  * slice: one split appended, over axes that are Replicate;
///  * relabel: another list of splits under which every rank owns the same;
///  * to_partial (any Replicate axes together): to the kinds of the goal;
///  * shard_to_partial (the last splits of any dimensions, together; not avg): the same, and Replicate axes may cut the dimensions that lose a split.
void for_each_local_move(Space& space, const State& state, const State& goal, const std::function<void(const Step&)>& visit);
/// The same of the moves that communicate, but the direct one:
///  * all_gather: the last splits of any dimensions, together;
///  * all_to_all: the last splits of any dimensions taken off and their axes appended elsewhere or in another order;
///  * all_reduce: any Partial axes together; reduce_scatter: the same with the axes appended to dimensions.
void for_each_communication(Space& space, const State& state, const std::function<void(const Step&)>& visit);
/// Both.
void for_each_move(Space& space, const State& state, const State& goal, const std::function<void(const Step&)>& visit);
/// The move of for_each_communication that leads from one state to the other, if there is one: axes 0 otherwise.
Step communication_between(const Space& space, const State& from, const State& to);
/// The states from which moves without communication lead to `goal`, itself first: where the last move that communicates may end, the direct one always.
std::vector<State> states_before(Space& space, const State& goal);

}  // namespace dtensor::redistribute
