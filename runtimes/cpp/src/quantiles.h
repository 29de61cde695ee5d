// Percentiles of seconds and where they lie with 95 % confidence: validate/latency/quantiles.py of the Python package, which says why.
#ifndef SPRINT_EXPORT_QUANTILES_H
#define SPRINT_EXPORT_QUANTILES_H

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace sprint_export {

using Interval = std::pair<double, double>;

double find_quantile(std::vector<double> values, double share);  // between two values where it falls there; values are not empty

std::optional<Interval> bound_quantile(std::vector<double> values, double share);  // by order statistics; none of too few values

// Where the p50 of another run like this one is to be expected; values above 0, in the order they were measured.
std::optional<Interval> bound_median(const std::vector<double>& values);

std::size_t count_needed(double share);  // how many values an interval of this quantile takes at least

}  // namespace sprint_export

#endif
