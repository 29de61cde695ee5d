// What a device makes of a bundle, as rows and as the JSON that the Python package's `report --merge` joins.
#ifndef SPRINT_EXPORT_MEASURING_H
#define SPRINT_EXPORT_MEASURING_H

#include "reference.h"

namespace sprint_export {

struct Start {  // of a process that has drawn nothing yet
    std::chrono::steady_clock::time_point began;
    double open_milliseconds = 0;
};

struct Measured {
    const std::filesystem::path& folder;
    const App& app;
    std::string provider, library, runtime;  // the library's version, and what draws in words
    std::optional<Start> start;              // none: a picture was drawn before, so no first one can be timed
};

DeviceResult measure_device(const Measured& measured, const MeasureOptions& asked, const Draw& draw);

}  // namespace sprint_export

#endif
