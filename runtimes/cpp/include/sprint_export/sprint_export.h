// Draws pictures from a sprint-export bundle: its app.json says how, ONNX Runtime runs its graphs. C++17.
//
//     sprint_export::Pipeline pipeline = sprint_export::Pipeline::open("bundle");
//     sprint_export::Picture picture = pipeline.draw("a red circle above a blue square");
//
// A bundle is untrusted: sizes, hashes and paths are checked before a graph is opened, and nothing of it is executed but its graphs.
// So is a picture that is given.
// Text is UTF-8. A Pipeline is used by one thread at a time; stop() is for any thread.
#ifndef SPRINT_EXPORT_SPRINT_EXPORT_H
#define SPRINT_EXPORT_SPRINT_EXPORT_H

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
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
    std::size_t done = 0, total = 0;  // a stage ends with as many done as there are
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

struct Picture {
    int width = 0, height = 0;
    std::vector<std::uint8_t> rgb;  // height x width x 3
    std::uint64_t seed = 0;
    std::vector<std::pair<std::string, double>> milliseconds;  // of a drawing: "total", then each network's, in the order they ran
};

struct DrawOptions {
    std::uint64_t seed = 0;
    int steps = 0;              // 0: the bundle's default
    int height = 0, width = 0;  // pixels; 0: the bundle's own. Others want a bundle that was exported with --dynamic
    std::vector<float> noise;   // in place of the seed's: unit variance, one step's values after the other's, of the steps that run
    std::optional<Picture> control;  // a picture that steers, of any size: it is resized as in Python. Wants a ControlNet (--controlnet)
    float control_scale = 1;         // how strongly; 1 as trained
    std::optional<Picture> image;    // a picture to start from, likewise. Wants --image-to-image
    double strength = 0.6;           // how far from it, above 0 to 1: the last so much of the steps runs; at 1 they start from noise alone
    // What optional networks take, by name, in place of what `control` would give; where none is given they do not run.
    std::map<std::string, std::vector<float>> inputs;
    OnProgress on_progress;
};

struct Prompt {
    std::vector<std::int64_t> ids, mask;
};

struct StageCheck {  // one call of a network, here and in the reference
    std::string network;
    int step = -1;         // of the loop, from 0; -1 where it runs once
    bool is_same = false;  // to the bit
    double error = 0;      // the largest difference of the outputs' first values, in standard deviations of the output
};

struct Check {  // one drawing of the bundle's reference/ beside the same one made here
    std::string prompt;
    std::uint64_t seed = 0;
    int steps = 0;
    int largest = 0;  // the largest difference of two pixels' values, of 255
    double mean = 0, psnr_db = 0;     // of all differences; of the picture, at most 100
    std::vector<StageCheck> stages;   // in the order they ran; none where other networks ran
    std::string begins;               // the first that is not the same to the bit: ids, mask, noise, a network, picture; empty where all is
    std::string before, now;          // what drew the reference, and what drew it here
    bool passed = false;  // whether `largest` is at most the tolerance, and ids, mask and noise are the same
};

struct MeasureOptions {
    bool checks = true;  // draws all that reference/ holds, and compares
    int tolerance = 2;   // of 255: what other kernels for the same integers may leave
    bool times = true;   // draws again and again
    int runs = 0;        // counted drawings; 0: what ten seconds hold, at least 10, and more while other programs take the processors
    int warm_up = -1;    // drawings before; -1: at least 2, and more until a second has passed
    std::string label;   // what the device is called beside others; empty: its processor
    // When the program began: its cold start is from then to its first picture. Default: when open() was called.
    std::optional<std::chrono::steady_clock::time_point> began;
    OnProgress on_progress;
};

struct Row {  // a figure, by the names that the Python package has for it
    std::string metric, component;
    double value = 0;
    std::string unit, note;
    std::optional<std::pair<double, double>> interval;  // where it lies with 95 % confidence
};

struct DeviceResult {
    std::vector<Check> checks;
    std::vector<Row> rows;
    std::string json;  // what `sprint-export report --merge BUNDLE FILE...` joins with other devices'
};

class Pipeline {
public:
    // Reads and checks app.json, the files it names and the tokenizer, and loads the networks unless one_at_a_time.
    static Pipeline open(const std::filesystem::path& folder, const Options& options = {});

    Picture draw(const std::string& prompt, const DrawOptions& options = {});
    Prompt encode(const std::string& prompt) const;  // token ids and mask, as the first network reads them

    // Draws what the bundle's reference/ holds again. 2 of 255 is what other kernels for the same integers may leave.
    std::vector<Check> check(int tolerance = 2);

    // Checks what is asked for without drawing. The flow time of the first step that runs: at 1 a picture to start from has no part.
    double find_first_time(const DrawOptions& options) const;

    // What this device makes of the bundle: figures, and a result to send back. Wants bundle.json beside app.json.
    DeviceResult measure(const MeasureOptions& options = {});

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

// A PNG file's bytes.
std::vector<std::uint8_t> encode_png(const Picture& picture);

// The picture of a PNG file of any kind, as RGB with 8 bits a channel: more bits are cut off and transparency is left out, as the
// Python package does. Throws InputError where it is damaged, or larger than 134 megapixels.
Picture decode_png(const std::vector<std::uint8_t>& file);
Picture read_png(const std::filesystem::path& file);

}  // namespace sprint_export

#endif
