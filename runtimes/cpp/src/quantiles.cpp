#include "quantiles.h"

#include <algorithm>
#include <cmath>

namespace sprint_export {
namespace {

constexpr double CONFIDENCE = 0.95;
constexpr std::size_t PARTS = 5, LEAST_IN_PART = 4, LEAST_ROUNDS = 3;
// Student's t at 97.5 %, by degrees of freedom from 1.
constexpr double STUDENT[] = {12.706, 4.303, 3.182, 2.776};

double find_binomial(std::size_t count, std::size_t number, double share) {  // P(B = number) of B(count, share)
    const auto n = static_cast<double>(count), k = static_cast<double>(number);
    return std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) + k * std::log(share) + (n - k) * std::log1p(-share));
}

// Ranks from 1 of ordered values between which the quantile lies, each side wrong with at most 2.5 %; none of too few values.
std::optional<std::pair<std::size_t, std::size_t>> find_ranks(std::size_t count, double share) {
    double below = 0;  // P(B < number)
    std::size_t low = 0, high = 0;
    for (std::size_t number = 0; number < count && high == 0; ++number) {
        if (below <= (1 - CONFIDENCE) / 2) low = number;
        below += find_binomial(count, number, share);
        if (below >= (1 + CONFIDENCE) / 2) high = number + 1;
    }
    if (low == 0 || high == 0) return std::nullopt;
    return std::make_pair(low, high);
}

// p50s of the parts of a run, in order, the first ones longer by one where they are not equal; none of a short run.
std::vector<double> split_medians(const std::vector<double>& values) {
    const std::size_t parts = std::min(PARTS, values.size() / LEAST_IN_PART);
    std::vector<double> medians;
    auto begin = values.begin();
    for (std::size_t i = 0; parts > 1 && i < parts; ++i) {
        const auto end = begin + static_cast<std::ptrdiff_t>(values.size() / parts + (i < values.size() % parts ? 1 : 0));
        medians.push_back(find_quantile({begin, end}, 0.5));
        begin = end;
    }
    return medians;
}

}  // namespace

double find_quantile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    const double place = share * static_cast<double>(values.size() - 1), rest = place - std::floor(place);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (values[above] - values[below]) * rest;
}

std::optional<Interval> bound_quantile(std::vector<double> values, double share) {
    const auto ranks = find_ranks(values.size(), share);
    if (!ranks) return std::nullopt;
    std::sort(values.begin(), values.end());
    return Interval{values[ranks->first - 1], values[ranks->second - 1]};
}

std::optional<Interval> bound_median(const std::vector<double>& values) {
    const std::optional<Interval> found = bound_quantile(values, 0.5);
    const std::vector<double> rounds = split_medians(values);
    if (!found || rounds.size() < LEAST_ROUNDS) return found;
    const double middle = std::log(find_quantile(values, 0.5));
    double squares = 0;
    for (const double round : rounds) squares += (std::log(round) - middle) * (std::log(round) - middle);
    const double spread = std::sqrt(squares / static_cast<double>(rounds.size() - 1));
    const double reach = STUDENT[rounds.size() - 2] * spread * std::sqrt(2.0);
    return Interval{std::min(found->first, std::exp(middle - reach)), std::max(found->second, std::exp(middle + reach))};
}

std::size_t count_needed(double share) {
    std::size_t count = 2;
    while (!find_ranks(count, share)) ++count;
    return count;
}

}  // namespace sprint_export
