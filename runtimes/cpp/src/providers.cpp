#include "providers.h"

#include <cctype>

namespace sprint_export {
namespace {

struct ProviderName {
    const char* ours;
    const char* theirs;
};
constexpr ProviderName NAMES[] = {{"directml", "DML"},       {"tensorrt-rtx", "NvTensorRtRtx"}, {"webgpu", "WebGPU"}, {"coreml", "CoreML"},
                                  {"openvino", "OpenVINO"},  {"qnn", "QNN"},                    {"xnnpack", "XNNPACK"},
                                  {"vitisai", "VitisAI"}};

// What CUDA's and TensorRT's calls share: options are made, updated with texts, appended and released.
template <typename Made>
struct ProviderCalls {
    OrtStatus*(ORT_API_CALL* create)(Made**);
    OrtStatus*(ORT_API_CALL* update)(Made*, const char* const*, const char* const*, std::size_t);
    OrtStatus*(ORT_API_CALL* append)(OrtSessionOptions*, const Made*);
    void(ORT_API_CALL* release)(Made*);
};

template <typename Made>
OrtStatus* append_with(const ProviderCalls<Made>& calls, OrtSessionOptions* session, const std::vector<const char*>& keys,
                       const std::vector<const char*>& values) {
    Made* made = nullptr;
    OrtStatus* status = calls.create(&made);
    if (status == nullptr && !keys.empty()) status = calls.update(made, keys.data(), values.data(), keys.size());
    if (status == nullptr) status = calls.append(session, made);
    if (made != nullptr) calls.release(made);
    return status;
}

}  // namespace

OrtStatus* append_provider(const OrtApi& api, OrtSessionOptions* session, const Options& options) {
    std::vector<const char*> keys, values;
    for (const auto& [key, value] : options.provider_options) {
        keys.push_back(key.c_str());
        values.push_back(value.c_str());
    }
    if (options.provider == "cuda") {
        const ProviderCalls<OrtCUDAProviderOptionsV2> calls = {api.CreateCUDAProviderOptions, api.UpdateCUDAProviderOptions,
                                                               api.SessionOptionsAppendExecutionProvider_CUDA_V2,
                                                               api.ReleaseCUDAProviderOptions};
        return append_with(calls, session, keys, values);
    }
    if (options.provider == "tensorrt") {
        const ProviderCalls<OrtTensorRTProviderOptionsV2> calls = {api.CreateTensorRTProviderOptions, api.UpdateTensorRTProviderOptions,
                                                                   api.SessionOptionsAppendExecutionProvider_TensorRT_V2,
                                                                   api.ReleaseTensorRTProviderOptions};
        return append_with(calls, session, keys, values);
    }
    std::string name = options.provider;
    for (const ProviderName& known : NAMES)
        if (name == known.ours) name = known.theirs;
    return api.SessionOptionsAppendExecutionProvider(session, name.c_str(), keys.data(), values.data(), keys.size());
}

}  // namespace sprint_export
