// What a device says of itself, and what it did while pictures were drawn. What a system does not say is none.
#ifndef SPRINT_EXPORT_MACHINE_H
#define SPRINT_EXPORT_MACHINE_H

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sprint_export {

std::string describe_processor();
std::string describe_machine();  // processor, cores, system
std::string describe_system();   // with its version

std::size_t count_processors();             // that this process may use
std::optional<std::size_t> count_threads();  // of this process
std::optional<double> read_waiting();        // seconds that its threads were ready and had no processor, so far
std::optional<double> read_peak_memory();    // the most that it held, in 10^6 bytes

// Samples between drawings: clocks, threads, who else computed.
class Watch {
public:
    Watch();
    void look();  // unless the last sample is less than half a second old

    std::optional<std::size_t> threads() const { return threads_; }
    std::vector<double> pick_clocks() const;  // MHz at the start, in the middle, at the end, and the least; empty where there are none
    std::pair<std::optional<bool>, std::string> find_throttling() const;  // whether clocks fell, and what says so
    std::optional<double> find_others_share() const;  // of all processors' time since the watch began, what other programs used

private:
    std::vector<double> clocks_mhz_;
    std::optional<std::size_t> threads_;
    std::optional<std::pair<double, double>> busy_;
    double own_ = 0, last_ = -1e9;
};

}  // namespace sprint_export

#endif
