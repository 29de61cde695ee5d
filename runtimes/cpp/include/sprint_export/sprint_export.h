// Draws pictures from a sprint-export bundle: its app.json says how, ONNX Runtime runs its graphs. C++17.
//
//     sprint_export::Pipeline pipeline = sprint_export::Pipeline::open("bundle");
//     sprint_export::Picture picture = pipeline.draw("a red circle above a blue square");
//
// A bundle is untrusted: sizes, hashes and paths are checked before a graph is opened, and nothing of it is executed but its graphs.
// Text is UTF-8. A Pipeline is used by one thread at a time; stop() is for any thread.
#ifndef SPRINT_EXPORT_SPRINT_EXPORT_H
#define SPRINT_EXPORT_SPRINT_EXPORT_H

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace sprint_export {

// What every function here throws is one of these four.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct InputError : Error {  // what the caller gave cannot be used
    using Error::Error;
};
struct BundleError : Error {  // what the bundle holds is damaged, altered or not covered
    using Error::Error;
};
struct MachineError : Error {  // this machine cannot do it: a library, a provider, memory
    using Error::Error;
};
struct Stopped : Error {  // stop() was called, or on_progress returned false
    using Error::Error;
};

struct Progress {
    std::string stage;  // "checking", "loading" or "drawing"
    std::string what;   // a file, or a network's name
    std::size_t done = 0, total = 0;
};
using OnProgress = std::function<bool(const Progress&)>;  // returns whether to go on

struct Options {
    // "cpu", or a name that ONNX Runtime knows: "cuda", "tensorrt", "tensorrt-rtx", "directml", "openvino", "coreml", "xnnpack", ...
    std::string provider = "cpu";
    std::map<std::string, std::string> provider_options;
    bool allow_cpu_nodes = false;  // with another provider: whether ONNX Runtime may leave nodes to the CPU; else it refuses the graph
    int threads = 0;               // of one operator; 0: as many as ONNX Runtime chooses
    bool one_at_a_time = false;    // loads a network for its turn and frees it: less memory, more seconds
    bool verify = true;            // compares the hash of every file with app.json's
    OnProgress on_progress;
};

struct DrawOptions {
    std::uint64_t seed = 0;
    int steps = 0;              // 0: the bundle's default
    int height = 0, width = 0;  // pixels; 0: the bundle's own. Others want a bundle that was exported with --dynamic
    std::vector<float> noise;   // in place of the seed's: unit variance, one step's values after the other's
    // What optional networks take, by name (a ControlNet's picture in [-1, 1], channels first); where none is given they do not run.
    std::map<std::string, std::vector<float>> inputs;
    OnProgress on_progress;
};

struct Picture {
    int width = 0, height = 0;
    std::vector<std::uint8_t> rgb;  // height x width x 3
    std::uint64_t seed = 0;
    std::vector<std::pair<std::string, double>> milliseconds;  // "total", then each network's, in the order they ran
};

struct Prompt {
    std::vector<std::int64_t> ids, mask;
};

struct Check {  // one drawing of the bundle's reference/ beside the same one made here
    int steps = 0;
    int largest = 0;      // the largest difference of two pixels' values, of 255
    std::string begins;   // the first that is not the same to the bit: ids, mask, noise, a network, picture; empty where all is
    bool passed = false;  // whether `largest` is at most the tolerance, and ids, mask and noise are the same
};

class Pipeline {
public:
    // Reads and checks app.json, the files it names and the tokenizer, and loads the networks unless one_at_a_time.
    static Pipeline open(const std::filesystem::path& folder, const Options& options = {});

    Picture draw(const std::string& prompt, const DrawOptions& options = {});
    Prompt encode(const std::string& prompt) const;  // token ids and mask, as the first network reads them

    // Draws what the bundle's reference/ holds again. 2 of 255 is what other kernels for the same integers may leave.
    std::vector<Check> check(int tolerance = 2);

    void stop();  // the draw that is going on throws Stopped; from any thread

    const std::string& name() const;         // of the student
    std::vector<int> steps() const;          // step counts that can be drawn, the default first

    Pipeline(Pipeline&&) noexcept;
    Pipeline& operator=(Pipeline&&) noexcept;
    ~Pipeline();

private:
    struct Parts;
    explicit Pipeline(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

// Unit-variance noise of a seed, the same bits in every language: Philox4x32-10 and Wichura's AS 241 (docs/bundle.md).
std::vector<float> make_noise(std::uint64_t seed, std::size_t count, std::uint64_t first = 0);

// A PNG file's bytes, not compressed.
std::vector<std::uint8_t> encode_png(const Picture& picture);

// A picture of a PNG file with 8 bits a channel and no transparency; throws BundleError for any other.
Picture decode_png(const std::vector<std::uint8_t>& file);

}  // namespace sprint_export

#endif
