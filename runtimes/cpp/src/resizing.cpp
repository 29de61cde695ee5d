// Lanczos in integers, as Pillow computes it (src/libImaging/Resample.c): rows first, then columns, each rounded to 8 bits.
//
//     output i lies at c = (i + 1/2) s of the input, s = input size / output size; it takes what is within 3 max(s, 1) of c
//     weight of input j: L((j + 1/2 - c) / max(s, 1)), L(x) = sinc(pi x) sinc(pi x / 3), scaled to a sum of 1, in units of 2^-22
#include "resizing.h"

#include <algorithm>
#include <cmath>

#include "png_files.h"

namespace sprint_export {
namespace {

constexpr double PI = 3.14159265358979323846, REACH = 3;
constexpr int FRACTION_BITS = 22;

double sinc(double x) { return x == 0 ? 1 : std::sin(x * PI) / (x * PI); }
double weigh(double x) { return x >= -REACH && x < REACH ? sinc(x) * sinc(x / REACH) : 0; }

struct Taps {  // of one output: where they begin in the input
    std::size_t first = 0;
    std::vector<std::int64_t> weights;
};

std::vector<Taps> make_taps(int from, int to) {
    const double scale = static_cast<double>(from) / to, wide = std::max(scale, 1.0), support = REACH * wide, narrow = 1 / wide;
    std::vector<Taps> all(static_cast<std::size_t>(to));
    for (int i = 0; i < to; ++i) {
        const double center = (i + 0.5) * scale;
        const int first = std::max(static_cast<int>(center - support + 0.5), 0);
        const int end = std::min(static_cast<int>(center + support + 0.5), from);
        std::vector<double> weights;
        double sum = 0;
        for (int j = first; j < end; ++j) {
            weights.push_back(weigh((j - center + 0.5) * narrow));
            sum += weights.back();
        }
        Taps& taps = all[static_cast<std::size_t>(i)];
        taps.first = static_cast<std::size_t>(first);
        for (const double weight : weights) {
            const double units = (sum == 0 ? weight : weight / sum) * (1 << FRACTION_BITS);
            taps.weights.push_back(static_cast<std::int64_t>(units < 0 ? units - 0.5 : units + 0.5));
        }
    }
    return all;
}

// One output value: of inputs that lie `stride` apart, from the first that it takes.
std::uint8_t blend(const Taps& taps, const std::uint8_t* values, std::size_t stride) {
    std::int64_t sum = std::int64_t{1} << (FRACTION_BITS - 1);
    for (std::size_t i = 0; i < taps.weights.size(); ++i) sum += taps.weights[i] * values[i * stride];
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> FRACTION_BITS, 0, 255));
}

Picture make_empty(int height, int width) {
    Picture picture;
    picture.height = height;
    picture.width = width;
    picture.rgb.resize(std::size_t{3} * static_cast<std::size_t>(height) * static_cast<std::size_t>(width));
    return picture;
}

Picture resize_rows(const Picture& picture, int width) {
    Picture resized = make_empty(picture.height, width);
    const std::vector<Taps> taps = make_taps(picture.width, width);
    const std::size_t from = 3 * static_cast<std::size_t>(picture.width), to = 3 * taps.size();
    for (std::size_t y = 0; y < static_cast<std::size_t>(picture.height); ++y)
        for (std::size_t x = 0; x < to; ++x)
            resized.rgb[y * to + x] = blend(taps[x / 3], picture.rgb.data() + y * from + 3 * taps[x / 3].first + x % 3, 3);
    return resized;
}

Picture resize_columns(const Picture& picture, int height) {
    Picture resized = make_empty(height, picture.width);
    const std::vector<Taps> taps = make_taps(picture.height, height);
    const std::size_t stride = 3 * static_cast<std::size_t>(picture.width);
    for (std::size_t y = 0; y < taps.size(); ++y)
        for (std::size_t x = 0; x < stride; ++x)
            resized.rgb[y * stride + x] = blend(taps[y], picture.rgb.data() + taps[y].first * stride + x, stride);
    return resized;
}

}  // namespace

Picture resize(const Picture& picture, int height, int width) {
    Picture resized = picture.width == width ? picture : resize_rows(picture, width);
    return resized.height == height ? resized : resize_columns(resized, height);
}

std::vector<float> fit_picture(const std::string& name, const Picture& picture, int height, int width) {
    check_picture(picture, name + ": a picture");
    const Picture fitted = resize(picture, height, width);
    const std::size_t pixels = fitted.rgb.size() / 3;
    std::vector<float> values(fitted.rgb.size());
    for (std::size_t i = 0; i < pixels; ++i)
        for (std::size_t channel = 0; channel < 3; ++channel) {
            const float unit = static_cast<float>(fitted.rgb[3 * i + channel]) / 255.0F;
            values[channel * pixels + i] = 2.0F * unit - 1.0F;
        }
    return values;
}

}  // namespace sprint_export
