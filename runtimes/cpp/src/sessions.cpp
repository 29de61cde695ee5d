#include "sessions.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstring>

#include <onnxruntime_c_api.h>

#include "files.h"
#include "providers.h"

namespace sprint_export {
namespace {

constexpr std::int64_t LARGE_VALUES = 1 << 20;  // of an output: a picture of 600 px

struct TypePair {
    Type type;
    ONNXTensorElementDataType onnx;
};
constexpr TypePair TYPE_PAIRS[] = {
    {Type::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},     {Type::float16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    {Type::bfloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16}, {Type::int64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
    {Type::int32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},       {Type::boolean, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL}};

ONNXTensorElementDataType to_onnx(Type type) {
    for (const TypePair& pair : TYPE_PAIRS)
        if (pair.type == type) return pair.onnx;
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

Type from_onnx(ONNXTensorElementDataType onnx, const std::string& what) {
    for (const TypePair& pair : TYPE_PAIRS)
        if (pair.onnx == onnx) return pair.type;
    throw BundleError(what + " is of ONNX type " + std::to_string(static_cast<int>(onnx)) + ", which is not covered");
}

bool is_large(const Graph& graph) {
    return std::any_of(graph.outputs.begin(), graph.outputs.end(), [](const Spec& spec) {
        std::int64_t count = 1;
        for (const Axis& axis : spec.axes) count = count < LARGE_VALUES && axis.name.empty() ? count * axis.size : count;
        return count >= LARGE_VALUES;
    });
}

template <typename Object>
using Owned = std::unique_ptr<Object, void(ORT_API_CALL*)(Object*)>;

struct Interface {
    Type type;
    Shape shape;  // -1 where an axis is free
};

class OnnxRuntime : public Runtime {
public:
    OnnxRuntime(const Options& options, const std::string& oldest) : api_(find_api(oldest)), options_(options) {
        OrtEnv* env = nullptr;
        check<MachineError>(api_->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "sprint_export", &env), "ONNX Runtime cannot start");
        env_ = {env, api_->ReleaseEnv};
        OrtMemoryInfo* memory = nullptr;
        check<MachineError>(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory), "ONNX Runtime cannot start");
        memory_ = {memory, api_->ReleaseMemoryInfo};
        OrtRunOptions* run = nullptr;
        check<MachineError>(api_->CreateRunOptions(&run), "ONNX Runtime cannot start");
        run_options_ = {run, api_->ReleaseRunOptions};
        session_options_ = make_session_options(true);
        large_options_ = make_session_options(false);
    }

    std::unique_ptr<Session> open(const std::filesystem::path& file, const Graph& graph) override;
    void stop() override {
        is_stopped_ = true;
        release(api_->RunOptionsSetTerminate(run_options_.get()));
    }
    void reset() override {
        is_stopped_ = false;
        release(api_->RunOptionsUnsetTerminate(run_options_.get()));
    }
    bool is_stopped() const override { return is_stopped_; }
    std::string version() const override { return OrtGetApiBase()->GetVersionString(); }

    template <typename Raised>
    void check(OrtStatus* status, const std::string& what) const {
        if (status == nullptr) return;
        const OrtErrorCode code = api_->GetErrorCode(status);
        std::string message = api_->GetErrorMessage(status);
        message = message.substr(0, message.find('\n'));
        api_->ReleaseStatus(status);
        if (is_stopped_) throw Stopped("stopped while a network ran");
        const bool is_short = message.find("bad_alloc") != std::string::npos || message.find("bad allocation") != std::string::npos ||
                              message.find("Failed to allocate memory") != std::string::npos;
        const bool is_providers = code == ORT_EP_FAIL || (options_.provider != "cpu" && code == ORT_NOT_IMPLEMENTED);
        if (is_short || is_providers) throw MachineError(what + ": " + message);
        throw Raised(what + ": " + message);
    }

    const OrtApi* api() const { return api_; }
    const OrtMemoryInfo* memory() const { return memory_.get(); }
    const OrtRunOptions* run_options() const { return run_options_.get(); }

private:
    static const OrtApi* find_api(const std::string& oldest) {
        const OrtApiBase* base = OrtGetApiBase();
        const OrtApi* api = base->GetApi(ORT_API_VERSION);
        const std::string found = base->GetVersionString(), needed = "1." + std::to_string(ORT_API_VERSION);
        if (api == nullptr) throw MachineError("ONNX Runtime " + found + " is found, this program was built for " + needed + " or newer");
        if (!oldest.empty() && read_minor(found) < read_minor(oldest))
            throw MachineError("ONNX Runtime " + found + " is found, the bundle needs " + oldest + " or newer");
        return api;
    }

    static int read_minor(const std::string& version) {  // of "1.21.0"; all versions so far begin with 1
        const std::size_t dot = version.find('.');
        int minor = 0;
        for (std::size_t i = dot == std::string::npos ? version.size() : dot + 1; i < version.size() && version[i] != '.'; ++i)
            minor = std::isdigit(static_cast<unsigned char>(version[i])) != 0 && minor < 100000 ? minor * 10 + (version[i] - '0') : minor;
        return minor;
    }

    void release(OrtStatus* status) const {
        if (status != nullptr) api_->ReleaseStatus(status);
    }

    // The settings of runtimes/onnx_cpu/runtime.py: pictures are then those of the Python package. Memory is kept for the next run, but
    // for a graph with a large output: what a decoder of large pictures took would grow from picture to picture.
    Owned<OrtSessionOptions> make_session_options(bool keeps_memory) const {
        OrtSessionOptions* made = nullptr;
        check<MachineError>(api_->CreateSessionOptions(&made), "ONNX Runtime cannot start");
        Owned<OrtSessionOptions> options(made, api_->ReleaseSessionOptions);
        const auto set = [&](const char* key, const char* value) {
            check<MachineError>(api_->AddSessionConfigEntry(made, key, value), std::string("ONNX Runtime does not take ") + key);
        };
        // Else INT8 Q/DQ becomes UINT8 and, from opset 21 on, output_dtype is forgotten.
        set("session.qdqisint8allowed", "1");
        // Else kernels for weights in few bits round activations to 8 bits too.
        set("session.qdq_matmulnbits_accuracy_level", "1");
        // Else a network's threads go on waiting at full speed when it is done, beside those of the network that runs after it.
        set("session.force_spinning_stop", "1");
        check<MachineError>(api_->SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_ERROR), "ONNX Runtime cannot start");
        if (!keeps_memory) check<MachineError>(api_->DisableCpuMemArena(made), "ONNX Runtime cannot start");
        if (options_.threads < 0) throw InputError("threads=" + std::to_string(options_.threads) + ", expected 0 or more");
        if (options_.threads > 0) check<MachineError>(api_->SetIntraOpNumThreads(made, options_.threads), "ONNX Runtime cannot start");
        if (options_.provider != "cpu") {
            if (!options_.allow_cpu_nodes) set("session.disable_cpu_ep_fallback", "1");
            check<MachineError>(append_provider(*api_, made, options_), "provider \"" + options_.provider + "\" is not to be had here");
        }
        return options;
    }

    const OrtApi* api_;
    Options options_;
    Owned<OrtEnv> env_{nullptr, nullptr};
    Owned<OrtMemoryInfo> memory_{nullptr, nullptr};
    Owned<OrtRunOptions> run_options_{nullptr, nullptr};
    Owned<OrtSessionOptions> session_options_{nullptr, nullptr}, large_options_{nullptr, nullptr};
    std::atomic<bool> is_stopped_{false};
};

class OnnxSession : public Session {
public:
    OnnxSession(const OnnxRuntime& runtime, Owned<OrtSession> session, const Graph& graph, std::string file)
        : runtime_(runtime), session_(std::move(session)), graph_(graph), file_(std::move(file)) {
        OrtAllocator* allocator = nullptr;
        runtime_.check<MachineError>(runtime_.api()->GetAllocatorWithDefaultOptions(&allocator), "ONNX Runtime has no allocator");
        check_interface("input", graph_.inputs, list_values(allocator, true));
        check_interface("output", graph_.outputs, list_values(allocator, false));
    }

    Values run(const Values& feeds) override {
        const OrtApi& api = *runtime_.api();
        std::vector<Tensor> tensors;  // what ONNX Runtime reads while it runs
        std::vector<Owned<OrtValue>> inputs;
        std::vector<const char*> input_names, output_names;
        std::vector<const OrtValue*> input_values;
        tensors.reserve(graph_.inputs.size());
        for (const Spec& spec : graph_.inputs) {
            tensors.push_back(feeds.at(spec.name).to(spec.type));
            Tensor& tensor = tensors.back();
            OrtValue* made = nullptr;
            runtime_.check<BundleError>(
                api.CreateTensorWithDataAsOrtValue(runtime_.memory(), tensor.bytes.data(), tensor.bytes.size(), tensor.shape.data(),
                                                   tensor.shape.size(), to_onnx(tensor.type), &made),
                file_ + " does not take " + spec.name);
            inputs.emplace_back(made, api.ReleaseValue);
            input_values.push_back(made);
            input_names.push_back(spec.name.c_str());
        }
        for (const Spec& spec : graph_.outputs) output_names.push_back(spec.name.c_str());
        std::vector<OrtValue*> made(output_names.size(), nullptr);
        OrtStatus* status = api.Run(session_.get(), runtime_.run_options(), input_names.data(), input_values.data(),
                                    input_values.size(), output_names.data(), output_names.size(), made.data());
        std::vector<Owned<OrtValue>> outputs;
        for (OrtValue* each : made) outputs.emplace_back(each, api.ReleaseValue);
        runtime_.check<BundleError>(status, "ONNX Runtime cannot run " + file_);
        Values results;
        for (std::size_t i = 0; i < outputs.size(); ++i)
            results.emplace(graph_.outputs[i].name, read_value(outputs[i].get(), graph_.outputs[i]));
        return results;
    }

private:
    Interface read_interface(const OrtTensorTypeAndShapeInfo* info, const std::string& what) const {
        const OrtApi& api = *runtime_.api();
        ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        std::size_t count = 0;
        runtime_.check<BundleError>(api.GetTensorElementType(info, &type), what);
        runtime_.check<BundleError>(api.GetDimensionsCount(info, &count), what);
        Shape shape(count);
        runtime_.check<BundleError>(api.GetDimensions(info, shape.data(), count), what);
        return {from_onnx(type, what), std::move(shape)};
    }

    std::map<std::string, Interface> list_values(OrtAllocator* allocator, bool is_input) const {
        const OrtApi& api = *runtime_.api();
        std::size_t count = 0;
        runtime_.check<BundleError>(is_input ? api.SessionGetInputCount(session_.get(), &count) : api.SessionGetOutputCount(session_.get(), &count), file_);
        std::map<std::string, Interface> values;
        for (std::size_t i = 0; i < count; ++i) {
            char* name = nullptr;
            runtime_.check<BundleError>(is_input ? api.SessionGetInputName(session_.get(), i, allocator, &name)
                                                 : api.SessionGetOutputName(session_.get(), i, allocator, &name), file_);
            const std::string key = name;
            runtime_.check<BundleError>(api.AllocatorFree(allocator, name), file_);
            OrtTypeInfo* made = nullptr;
            runtime_.check<BundleError>(is_input ? api.SessionGetInputTypeInfo(session_.get(), i, &made)
                                                 : api.SessionGetOutputTypeInfo(session_.get(), i, &made), file_);
            const Owned<OrtTypeInfo> info(made, api.ReleaseTypeInfo);
            const OrtTensorTypeAndShapeInfo* tensor = nullptr;
            runtime_.check<BundleError>(api.CastTypeInfoToTensorInfo(info.get(), &tensor), file_);
            if (tensor == nullptr) throw BundleError(file_ + ": " + key + " is no tensor");
            values.emplace(key, read_interface(tensor, file_ + ": " + key));
        }
        return values;
    }

    void check_interface(const std::string& side, const std::vector<Spec>& specs, const std::map<std::string, Interface>& found) const {
        for (const Spec& spec : specs) {
            const auto value = found.find(spec.name);
            if (value == found.end()) throw BundleError(file_ + " has no " + side + " \"" + spec.name + "\", which app.json names");
            bool fits = value->second.type == spec.type && value->second.shape.size() == spec.axes.size();
            for (std::size_t i = 0; fits && i < spec.axes.size(); ++i) {
                const std::int64_t size = value->second.shape[i];
                fits = size < 0 || !spec.axes[i].name.empty() || size == spec.axes[i].size;
            }
            if (!fits)
                throw BundleError(file_ + ": " + side + " \"" + spec.name + "\" is " + name_type(value->second.type) + " " +
                                  show_shape(value->second.shape) + ", app.json says otherwise; copy the bundle again");
        }
        if (side == "input" && found.size() != specs.size()) throw BundleError(file_ + " has inputs that app.json does not name");
    }

    Tensor read_value(OrtValue* value, const Spec& spec) const {
        const OrtApi& api = *runtime_.api();
        OrtTensorTypeAndShapeInfo* made = nullptr;
        runtime_.check<BundleError>(api.GetTensorTypeAndShape(value, &made), file_ + ": " + spec.name);
        const Owned<OrtTensorTypeAndShapeInfo> info(made, api.ReleaseTensorTypeAndShapeInfo);
        const Interface found = read_interface(info.get(), file_ + ": " + spec.name);
        void* data = nullptr;
        runtime_.check<BundleError>(api.GetTensorMutableData(value, &data), file_ + ": " + spec.name);
        Tensor tensor = Tensor::zeros(found.type, found.shape);
        if (!tensor.bytes.empty()) std::memcpy(tensor.bytes.data(), data, tensor.bytes.size());
        return tensor;
    }

    const OnnxRuntime& runtime_;
    Owned<OrtSession> session_;
    const Graph& graph_;
    std::string file_;
};

std::unique_ptr<Session> OnnxRuntime::open(const std::filesystem::path& file, const Graph& graph) {
    OrtSession* made = nullptr;
    const OrtSessionOptions* options = (is_large(graph) ? large_options_ : session_options_).get();
    check<BundleError>(api_->CreateSession(env_.get(), file.c_str(), options, &made),
                       "ONNX Runtime cannot load " + show(file) + " on \"" + options_.provider + "\"");
    return std::make_unique<OnnxSession>(*this, Owned<OrtSession>(made, api_->ReleaseSession), graph, show(file));
}

}  // namespace

std::unique_ptr<Runtime> open_runtime(const Options& options, const std::string& oldest) {
    return std::make_unique<OnnxRuntime>(options, oldest);
}

}  // namespace sprint_export
