#include "measuring.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "device_result.h"
#include "identity.h"
#include "machine.h"
#include "timing.h"

namespace sprint_export {
namespace {

constexpr std::size_t LONGEST_LABEL = 200;  // letters
constexpr const char* WHOLE = "whole picture";

using Clock = std::chrono::steady_clock;

double count_milliseconds(Clock::time_point from) { return std::chrono::duration<double, std::milli>(Clock::now() - from).count(); }

bool has_other_inputs(const Check& check) { return check.begins == "ids" || check.begins == "mask" || check.begins == "noise"; }

// Rows over all drawings of the reference, as the Python package's validation against it has them.
std::vector<Row> describe_checks(const std::vector<Check>& checks) {
    double sum = 0, worst = checks.front().psnr_db;
    int largest = 0;
    std::size_t calls = 0, same = 0, other = 0;
    std::set<std::string> begins;
    for (const Check& check : checks) {
        sum += check.psnr_db;
        worst = std::min(worst, check.psnr_db);
        largest = std::max(largest, check.largest);
        calls += check.stages.size();
        same += static_cast<std::size_t>(std::count_if(check.stages.begin(), check.stages.end(), [](const StageCheck& stage) { return stage.is_same; }));
        other += has_other_inputs(check) ? 1 : 0;
        if (!check.begins.empty()) begins.insert(check.begins);
    }
    const auto count = static_cast<double>(checks.size());
    const std::string pictures = checks.size() == 1 ? "1 picture" : std::to_string(checks.size()) + " pictures";
    std::string where;
    for (const std::string& each : begins) where += (where.empty() ? "; others from " : ", ") + each;
    return {{"reference_psnr_db", "", sum / count, "dB", "drawn here vs reference/, mean over " + pictures, {}},
            {"reference_psnr_worst_db", "", worst, "dB", "the worst picture", {}},
            {"reference_largest_difference", "", static_cast<double>(largest), "of 255", "of two pixels' values", {}},
            {"reference_same_percent", "", calls == 0 ? 0 : 100 * static_cast<double>(same) / static_cast<double>(calls), "%",
             std::to_string(same) + " of " + std::to_string(calls) + " calls of networks equal to the bit" + where + (where.empty() ? "" : " on"), {}},
            {"reference_other_inputs", "", static_cast<double>(other), "pictures", "whose token ids, mask or noise are not the reference's", {}}};
}

std::vector<Row> describe_start(const Start& start, double first, double whole) {
    return {{"cold_start_ms", WHOLE, whole, "ms", "this process: from its beginning to its first picture; files may lie in the system's cache", {}},
            {"open_ms", WHOLE, start.open_milliseconds, "ms", "of it, Pipeline::open, which compares the files with their sha256", {}},
            {"first_picture_ms", WHOLE, first, "ms", "of it, the first picture", {}}};
}

std::vector<std::string> list_unchecked(const DeviceResult& result, bool times) {
    std::vector<std::string> sentences = {"PyTorch was not run: how far the bundle is from the student says the report that was made with it"};
    if (result.checks.empty())
        sentences.push_back("no picture was compared with the reference's");
    else
        sentences.push_back(std::to_string(result.checks.size()) + (result.checks.size() == 1 ? " picture was drawn" : " pictures were drawn") +
                            "; a validation beside PyTorch draws as many as its gates take, 64 or more of small ones");
    if (!times) sentences.push_back("nothing was timed: sprint-draw --bench does");
    return sentences;
}

void check_asked(const MeasureOptions& asked) {
    const auto letters = std::count_if(asked.label.begin(), asked.label.end(), [](char byte) { return (byte & 0xC0) != 0x80; });
    if (static_cast<std::size_t>(letters) > LONGEST_LABEL)
        throw InputError("label: found " + std::to_string(letters) + " letters, expected at most " + std::to_string(LONGEST_LABEL));
    if (!asked.checks && !asked.times) throw InputError("nothing to measure: expected checks or times");
}

// Draws again and again; where nothing was drawn yet, the first picture of all is one of a cold start.
DeviceTiming time_device(const Measured& measured, const MeasureOptions& asked, const Draw& draw, std::vector<Row>& rows) {
    std::vector<Row> starting;
    DeviceTiming found;
    if (measured.start) {
        const auto start = Clock::now();
        draw(TIMED_PROMPT, {}, nullptr);
        const double first = count_milliseconds(start), whole = count_milliseconds(measured.start->began);
        starting = describe_start(*measured.start, first, whole);
        found.cold_start_seconds = whole / 1e3;
    }
    found.timing = time_drawings(asked, draw);
    const std::vector<Row> timed = describe_timed(found.timing.drawn);
    rows.insert(rows.end(), timed.begin(), timed.end());
    rows.insert(rows.end(), starting.begin(), starting.end());
    if (const auto memory = read_peak_memory())
        rows.push_back({"peak_memory_mb", WHOLE, *memory, "MB", "the most that this process held, several pictures drawn", {}});
    return found;
}

}  // namespace

DeviceResult measure_device(const Measured& measured, const MeasureOptions& asked, const Draw& draw) {
    check_asked(asked);
    DeviceRun run{find_identity(measured.folder, measured.app), asked.label, {}, 0, {}};
    DeviceResult result;
    std::vector<Row> timed;
    if (asked.times) run.timing = time_device(measured, asked, draw, timed);  // before what would make the first picture warm
    const auto start = Clock::now();
    if (asked.checks) {
        result.checks = check_reference(measured.folder, measured.app.reference, {asked.tolerance, true, measured.runtime}, draw);
        result.rows = describe_checks(result.checks);
        run.seconds = count_milliseconds(start) / 1e3;
    }
    result.rows.insert(result.rows.end(), timed.begin(), timed.end());
    run.unchecked = list_unchecked(result, asked.times);
    result.json = format_result(measured, run, result);
    return result;
}

}  // namespace sprint_export
