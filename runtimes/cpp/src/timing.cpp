#include "timing.h"

#include <algorithm>
#include <chrono>
#include <sstream>

#include "quantiles.h"

namespace sprint_export {
namespace {

constexpr const char* WHOLE = "whole picture";
constexpr int PERCENTS[] = {50, 90, 99};
constexpr double MOST_WAITING = 0.1;  // of a picture's seconds, summed over threads: one that waited longer is disturbed
constexpr std::size_t LEAST_QUIET = 12, LEAST_PICTURES = 10, MOST_PICTURES = 2000;
constexpr double LEAST_SECONDS = 10, MOST_SECONDS = 60, WARM_SECONDS = 1;
constexpr int WARM_PICTURES = 2, MOST_WARM = 50, MOST_RUNS = 1000000;

using Clock = std::chrono::steady_clock;

double count_seconds(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string format_number(double value) {
    std::ostringstream text;
    text.precision(4);
    text << value;
    return text.str();
}

std::size_t count_quiet(const std::vector<Timed>& drawn) {
    return static_cast<std::size_t>(std::count_if(drawn.begin(), drawn.end(), [](const Timed& each) { return each.is_quiet(); }));
}

bool is_over(const std::vector<Timed>& drawn, double seconds, int runs) {
    if (runs > 0) return drawn.size() >= static_cast<std::size_t>(runs);
    if (drawn.size() < LEAST_PICTURES || seconds < LEAST_SECONDS) return false;
    const bool is_clear = count_quiet(drawn) >= std::min(LEAST_QUIET, drawn.size());
    return is_clear || drawn.size() >= MOST_PICTURES || seconds >= MOST_SECONDS;
}

Timed time_drawing(const Draw& draw, std::uint64_t seed) {
    DrawOptions options;
    options.seed = seed;
    const std::optional<double> before = read_waiting();
    const auto start = Clock::now();
    Drawing drawing = draw(TIMED_PROMPT, options, nullptr);
    Timed timed{count_seconds(start), std::move(drawing.calls), std::nullopt};
    const std::optional<double> after = read_waiting();
    if (before && after) timed.waited = std::max(0.0, *after - *before);
    return timed;
}

// Milliseconds of all calls of each network in the order they run, and of whole pictures.
std::vector<std::pair<std::string, std::vector<double>>> list_milliseconds(const std::vector<Timed>& drawn) {
    std::vector<std::pair<std::string, std::vector<double>>> rows;
    for (const Timed& each : drawn)
        for (const auto& [network, milliseconds] : each.calls) {
            const auto known = std::find_if(rows.begin(), rows.end(), [&, &name = network](const auto& row) { return row.first == name; });
            if (known == rows.end())
                rows.emplace_back(network, std::vector<double>{milliseconds});
            else
                known->second.push_back(milliseconds);
        }
    rows.emplace_back(WHOLE, std::vector<double>{});
    for (const Timed& each : drawn) rows.back().second.push_back(1e3 * each.seconds);
    return rows;
}

std::string describe_choice(const std::vector<Timed>& drawn, const std::vector<Timed>& chosen, bool is_busy) {
    const std::string count = "of " + std::to_string(chosen.size()) + " drawings";
    const std::string disturbed = std::to_string(drawn.size() - count_quiet(drawn));
    if (is_busy) return count + "; the machine was busy, " + disturbed + " waited for processors: the interval is all that was seen";
    if (chosen.size() == drawn.size()) return count;
    const double every = find_quantile(list_milliseconds(drawn).back().second, 0.5);
    return count + "; " + disturbed + " that waited for processors are left out (p50 of all " + format_number(every) + " ms)";
}

}  // namespace

bool Timed::is_quiet() const { return !waited || *waited <= MOST_WAITING * seconds; }

Timing time_drawings(const MeasureOptions& asked, const Draw& draw) {
    if (asked.runs < 0 || asked.runs > MOST_RUNS) throw InputError("runs=" + std::to_string(asked.runs) + ", expected 0 to " + std::to_string(MOST_RUNS));
    if (asked.warm_up < -1 || asked.warm_up > MOST_RUNS) throw InputError("warm_up=" + std::to_string(asked.warm_up) + ", expected 0 or more");
    Timing timing;
    const auto warming = Clock::now();
    const auto is_warm = [&] {
        if (asked.warm_up >= 0) return timing.warm_up >= asked.warm_up;
        return timing.warm_up >= WARM_PICTURES && (count_seconds(warming) >= WARM_SECONDS || timing.warm_up >= MOST_WARM);
    };
    for (; !is_warm(); ++timing.warm_up) time_drawing(draw, 0);
    timing.watch = Watch();
    timing.watch.look();
    for (const auto start = Clock::now(); !is_over(timing.drawn, count_seconds(start), asked.runs);) {
        timing.drawn.push_back(time_drawing(draw, timing.drawn.size()));
        timing.watch.look();
    }
    return timing;
}

std::vector<Row> describe_timed(const std::vector<Timed>& drawn) {
    std::vector<Timed> chosen;
    std::copy_if(drawn.begin(), drawn.end(), std::back_inserter(chosen), [](const Timed& each) { return each.is_quiet(); });
    if (chosen.size() < LEAST_QUIET) chosen = drawn;
    const bool is_busy = chosen.size() == drawn.size() && drawn.size() >= LEAST_QUIET && count_quiet(drawn) < LEAST_QUIET;
    const std::string note = describe_choice(drawn, chosen, is_busy);
    std::vector<Row> rows;
    for (const auto& [component, values] : list_milliseconds(chosen))
        for (const int percent : PERCENTS) {
            const double share = percent / 100.0;
            std::optional<Interval> interval = percent == 50 ? bound_median(values) : bound_quantile(values, share);
            if (is_busy) interval = Interval{*std::min_element(values.begin(), values.end()), *std::max_element(values.begin(), values.end())};
            const std::string needed = interval ? "" : "; an interval takes " + std::to_string(count_needed(share));
            rows.push_back({"latency_p" + std::to_string(percent) + "_ms", component, find_quantile(values, share), "ms", note + needed, interval});
        }
    return rows;
}

}  // namespace sprint_export
