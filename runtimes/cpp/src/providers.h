// Execution providers by name, through the calls that ONNX Runtime's C API has for them.
#ifndef SPRINT_EXPORT_PROVIDERS_H
#define SPRINT_EXPORT_PROVIDERS_H

#include <onnxruntime_c_api.h>

#include "sprint_export/sprint_export.h"

namespace sprint_export {

// Adds options.provider, which is not "cpu"; null, or why not: a library without it refuses it, and a name that it does not know.
OrtStatus* append_provider(const OrtApi& api, OrtSessionOptions* session, const Options& options);

}  // namespace sprint_export

#endif
