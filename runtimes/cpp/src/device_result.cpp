#include "device_result.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "files.h"
#include "json.h"
#include "machine.h"

namespace sprint_export {
namespace {

constexpr int FORMAT = 2;  // of report.json

Json describe_row(const Row& row) {
    Json interval = nullptr;
    if (row.interval) interval = {row.interval->first, row.interval->second};
    return {{"metric", row.metric}, {"value", row.value}, {"unit", row.unit}, {"component", row.component}, {"limit", nullptr},
            {"verdict", nullptr},   {"note", row.note},   {"interval", interval}, {"needed", nullptr}};
}

Json describe_check(const Check& check) {
    Json stages = Json::array();
    for (const StageCheck& stage : check.stages)
        stages.push_back({{"network", stage.network},
                          {"step", stage.step < 0 ? Json(nullptr) : Json(stage.step)},
                          {"is_same", stage.is_same},
                          {"error", stage.error}});
    return {{"prompt", check.prompt}, {"seed", check.seed},       {"steps", check.steps},   {"largest", check.largest},
            {"mean", check.mean},     {"psnr_db", check.psnr_db}, {"stages", stages},       {"begins", check.begins},
            {"before", check.before}, {"now", check.now},         {"passed", check.passed}};
}

Json describe_picture(std::size_t place, const Check& check) {
    const Json figures = {{"reference_psnr_db", check.psnr_db}, {"largest_difference", static_cast<double>(check.largest)}};
    return {{"place", place}, {"prompt", check.prompt}, {"figures", figures}, {"flipped", Json::array()}};
}

// How it was timed: the fields of the Python package's Conditions.
Json describe_conditions(const DeviceTiming& timed) {
    const Timing& timing = timed.timing;
    const auto& drawn = timing.drawn;
    const bool is_known = std::any_of(drawn.begin(), drawn.end(), [](const Timed& each) { return each.waited.has_value(); });
    const auto disturbed = std::count_if(drawn.begin(), drawn.end(), [](const Timed& each) { return !each.is_quiet(); });
    const auto threads = timing.watch.threads();
    const auto others = timing.watch.find_others_share();
    const auto [throttled, why] = timing.watch.find_throttling();
    return {{"protocol", "own"},
            {"runs", drawn.size()},
            {"warm_up", timing.warm_up},
            {"batch", 1},
            {"disturbed", is_known ? Json(disturbed) : Json(nullptr)},
            {"processors", count_processors()},
            {"threads", threads ? Json(*threads) : Json(nullptr)},
            {"replayed", false},
            {"launches", "not applicable: nothing is launched that could be replayed"},
            {"device", describe_processor()},
            {"clock_mhz", timing.watch.pick_clocks()},
            {"throttled", throttled ? Json(*throttled) : Json(nullptr)},
            {"throttling", why},
            {"cold_starts", timed.cold_start_seconds ? Json::array({*timed.cold_start_seconds}) : Json::array()},
            {"minutes", Json::array()},
            {"others", Json::array()},
            {"others_share", others ? Json(*others) : Json(nullptr)}};
}

double sum_seconds(const std::vector<Timed>& drawn) {
    double sum = 0;
    for (const Timed& each : drawn) sum += each.seconds;
    return sum;
}

}  // namespace

std::string format_result(const Measured& measured, const DeviceRun& run, const DeviceResult& result) {
    Json rows = Json::array(), checks = Json::array(), pictures = Json::array();
    for (const Row& row : result.rows) rows.push_back(describe_row(row));
    for (const Check& check : result.checks) {
        pictures.push_back(describe_picture(pictures.size(), check));
        checks.push_back(describe_check(check));
    }
    const bool compares = !result.checks.empty();
    const std::string machine = describe_machine();
    const Json value = {{"format", FORMAT},
                        {"kind", "device result"},
                        {"identity", run.identity},
                        {"label", run.label.empty() ? machine : run.label},
                        {"provider", measured.provider},
                        {"driver", ""},
                        {"versions", {{"sprint-export (C++)", SPRINT_EXPORT_VERSION}, {"onnxruntime", measured.library}, {"system", describe_system()}}},
                        {"checks", checks},
                        {"bench", run.timing ? describe_conditions(*run.timing) : Json(nullptr)},
                        {"bundle", show(measured.folder)},
                        {"target", measured.app.target},
                        {"runtime", measured.runtime},
                        {"machine", machine},
                        {"prompts", compares ? result.checks.size() : run.timing->timing.drawn.size()},
                        {"rows", rows},
                        {"seconds", compares ? run.seconds : sum_seconds(run.timing->timing.drawn)},
                        {"pictures", pictures},
                        {"blocks", Json::array()},
                        {"unchecked", run.unchecked},
                        {"verdict", "met"},  // no gate is judged here: that is done where results are joined
                        {"passed", true}};
    return value.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace sprint_export
