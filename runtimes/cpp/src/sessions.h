// Networks over ONNX Runtime's C API, any version from 1.21 on.
#ifndef SPRINT_EXPORT_SESSIONS_H
#define SPRINT_EXPORT_SESSIONS_H

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "app.h"
#include "sprint_export/sprint_export.h"

namespace sprint_export {

using Values = std::map<std::string, Tensor>;  // by name

class Session {  // one graph
public:
    virtual ~Session() = default;
    virtual Values run(const Values& feeds) = 0;  // feeds has all of the graph's inputs, and may have more
};

class Runtime {
public:
    virtual ~Runtime() = default;
    // Throws BundleError where the graph cannot be read or is not what app.json says, MachineError where the provider cannot run it.
    virtual std::unique_ptr<Session> open(const std::filesystem::path& file, const Graph& graph) = 0;
    virtual void stop() = 0;   // the runs that are going on end with Stopped, and so do later ones, until reset()
    virtual void reset() = 0;
    virtual bool is_stopped() const = 0;
    virtual std::string version() const = 0;  // of the library
};

// Throws MachineError where the library is older than `oldest`, or this header's; or where the provider is not there.
std::unique_ptr<Runtime> open_runtime(const Options& options, const std::string& oldest);

}  // namespace sprint_export

#endif
