// A bundle is drawn again and again: percentiles of every network and of the whole picture, and what the machine did meanwhile.
#ifndef SPRINT_EXPORT_TIMING_H
#define SPRINT_EXPORT_TIMING_H

#include "machine.h"
#include "reference.h"

namespace sprint_export {

constexpr const char* TIMED_PROMPT = "a small red circle above a large blue square";

struct Timed {  // one drawing
    double seconds = 0;
    std::vector<std::pair<std::string, double>> calls;  // of networks: milliseconds of each
    std::optional<double> waited;                        // seconds that threads waited for processors

    bool is_quiet() const;  // whether nothing else took the processors from it, as far as the system says
};

struct Timing {
    std::vector<Timed> drawn;
    int warm_up = 0;
    Watch watch;
};

// Draws until there are enough; throws InputError where the numbers of `asked` make no sense.
Timing time_drawings(const MeasureOptions& asked, const Draw& draw);

std::vector<Row> describe_timed(const std::vector<Timed>& drawn);  // percentiles, in milliseconds

}  // namespace sprint_export

#endif
