#include "machine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>
#include <thread>

#if defined(_WIN32)
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <psapi.h>
#else
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#endif

namespace fs = std::filesystem;

namespace sprint_export {
namespace {

constexpr double SAMPLE_SECONDS = 0.5, TICKS = 100, FELL = 0.9;
constexpr std::size_t LEAST_CLOCKS = 8;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string trim(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t\r\n");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

// Values of lines such as "model name : ..." of a file of the system.
std::vector<std::string> list_fields(const char* file, const std::string& name) {
    std::vector<std::string> values;
    std::ifstream stream(file);
    for (std::string line; std::getline(stream, line);) {
        const std::size_t colon = line.find(':');
        if (colon != std::string::npos && trim(line.substr(0, colon)) == name) values.push_back(trim(line.substr(colon + 1)));
    }
    return values;
}

std::optional<double> find_mean(const std::vector<double>& values) {
    if (values.empty()) return std::nullopt;
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::optional<double> read_clock_mhz() {  // the processors' mean
    std::vector<double> values;
    for (const std::string& text : list_fields("/proc/cpuinfo", "cpu MHz")) {
        std::istringstream stream(text);
        if (double mhz = 0; stream >> mhz) values.push_back(mhz);
    }
    return find_mean(values);
}

std::optional<std::pair<double, double>> read_busy() {  // seconds of all processors so far, and of these those at work
    std::ifstream stream("/proc/stat");
    std::string name;
    std::vector<double> ticks(8, 0);
    if (!(stream >> name)) return std::nullopt;
    for (double& each : ticks)
        if (!(stream >> each)) return std::nullopt;
    const double total = std::accumulate(ticks.begin(), ticks.end(), 0.0) / TICKS;
    return std::make_pair(total, total - (ticks[3] + ticks[4]) / TICKS);  // without idle and waiting for a disk
}

double read_own_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace

#if defined(_WIN32)

std::string describe_processor() {
    wchar_t text[256] = {};
    DWORD size = sizeof text - sizeof(wchar_t);
    const auto status = RegGetValueW(HKEY_LOCAL_MACHINE, L"HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0", L"ProcessorNameString",
                                     RRF_RT_REG_SZ, nullptr, text, &size);
    const std::string name = status == ERROR_SUCCESS ? trim(fs::path(text).u8string()) : "";
    return name.empty() ? "a processor without a name" : name;
}

std::string describe_system() { return "Windows"; }
std::size_t count_processors() { return std::max(1U, std::thread::hardware_concurrency()); }

std::optional<double> read_peak_memory() {
    PROCESS_MEMORY_COUNTERS counters{};
    if (K32GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters) == 0) return std::nullopt;
    return static_cast<double>(counters.PeakWorkingSetSize) / 1e6;
}

#else

std::string describe_processor() {
#if defined(__APPLE__)
    char text[256] = {};
    std::size_t size = sizeof text - 1;
    if (sysctlbyname("machdep.cpu.brand_string", text, &size, nullptr, 0) == 0) return trim(text);
#endif
    const std::vector<std::string> names = list_fields("/proc/cpuinfo", "model name");
    if (!names.empty()) return names.front();
    utsname system{};
    return uname(&system) == 0 ? system.machine : "a processor without a name";
}

std::string describe_system() {
    utsname system{};
    return uname(&system) == 0 ? std::string(system.sysname) + " " + system.release + " " + system.machine : "";
}

std::size_t count_processors() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<std::size_t>(CPU_COUNT(&set));
#endif
    return std::max(1U, std::thread::hardware_concurrency());
}

std::optional<double> read_peak_memory() {
    for (const std::string& text : list_fields("/proc/self/status", "VmHWM")) {
        std::istringstream stream(text);
        if (double kilobytes = 0; stream >> kilobytes) return kilobytes * 1024 / 1e6;
    }
    rusage usage{};
    if (getrusage(RUSAGE_SELF, &usage) != 0) return std::nullopt;
    return static_cast<double>(usage.ru_maxrss) / 1e6;  // bytes on macOS
}

#endif

std::string describe_machine() {
    const std::string system = describe_system();
    const unsigned cores = std::thread::hardware_concurrency();
    return describe_processor() + ", " + std::to_string(cores) + " cores, " + system.substr(0, system.find(' '));
}

std::optional<std::size_t> count_threads() {
    std::error_code error;
    const fs::directory_iterator threads("/proc/self/task", error);
    if (error) return std::nullopt;
    return static_cast<std::size_t>(std::distance(begin(threads), end(threads)));
}

std::optional<double> read_waiting() {
    std::error_code error;
    fs::directory_iterator thread("/proc/self/task", error);
    double total = 0;
    bool is_known = false;
    for (; !error && thread != fs::directory_iterator(); thread.increment(error)) {
        std::ifstream stream(thread->path() / "schedstat");
        double ran = 0, waited = 0;
        if (!(stream >> ran >> waited)) continue;  // one that has ended meanwhile
        total += waited / 1e9;
        is_known = true;
    }
    return is_known ? std::optional<double>(total) : std::nullopt;
}

Watch::Watch() : busy_(read_busy()), own_(read_own_seconds()) {}

void Watch::look() {
    const double time = now();
    if (time - last_ < SAMPLE_SECONDS) return;
    last_ = time;
    if (const auto mhz = read_clock_mhz()) clocks_mhz_.push_back(*mhz);
    threads_ = count_threads();
}

std::vector<double> Watch::pick_clocks() const {
    if (clocks_mhz_.empty()) return {};
    return {clocks_mhz_.front(), clocks_mhz_[clocks_mhz_.size() / 2], clocks_mhz_.back(), *std::min_element(clocks_mhz_.begin(), clocks_mhz_.end())};
}

std::pair<std::optional<bool>, std::string> Watch::find_throttling() const {
    const bool moves = std::adjacent_find(clocks_mhz_.begin(), clocks_mhz_.end(), std::not_equal_to<>()) != clocks_mhz_.end();
    if (!moves) return {std::nullopt, "this system shows no clocks that move"};
    if (clocks_mhz_.size() < LEAST_CLOCKS) return {false, ""};
    const auto quarter = static_cast<std::ptrdiff_t>(clocks_mhz_.size() / 4);
    const double first = *find_mean({clocks_mhz_.begin(), clocks_mhz_.begin() + quarter});
    const double last = *find_mean({clocks_mhz_.end() - quarter, clocks_mhz_.end()});
    if (last >= FELL * first) return {false, ""};
    return {true, "clocks fell to " + std::to_string(std::lround(100 * last / first)) + " % of those at the start"};
}

std::optional<double> Watch::find_others_share() const {
    const auto busy = read_busy();
    if (!busy || !busy_ || busy->first <= busy_->first) return std::nullopt;
    const double own = read_own_seconds() - own_, total = busy->first - busy_->first;
    return std::clamp((busy->second - busy_->second - own) / total, 0.0, 1.0);
}

}  // namespace sprint_export
