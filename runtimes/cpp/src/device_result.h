// A device's result as the JSON that the Python package's `report --merge` reads: validate/merging/result.py says its form.
#ifndef SPRINT_EXPORT_DEVICE_RESULT_H
#define SPRINT_EXPORT_DEVICE_RESULT_H

#include "measuring.h"
#include "timing.h"

namespace sprint_export {

struct DeviceTiming {
    Timing timing;
    std::optional<double> cold_start_seconds;
};

struct DeviceRun {
    std::string identity, label;         // of the bundle; of the device, empty: its processor
    std::optional<DeviceTiming> timing;  // none: nothing was timed
    double seconds = 0;                  // that the comparison took
    std::vector<std::string> unchecked;
};

std::string format_result(const Measured& measured, const DeviceRun& run, const DeviceResult& result);

}  // namespace sprint_export

#endif
