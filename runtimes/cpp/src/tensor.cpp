#include "tensor.h"

#include <cstring>

#include "sprint_export/sprint_export.h"

namespace sprint_export {
namespace {

struct TypeRow {
    const char* name;
    Type type;
    std::size_t size;
};
constexpr TypeRow TYPES[] = {{"float32", Type::float32, 4}, {"float16", Type::float16, 2}, {"bfloat16", Type::bfloat16, 2},
                             {"int64", Type::int64, 8},     {"int32", Type::int32, 4},     {"bool", Type::boolean, 1}};

const TypeRow& find_row(Type type) {
    for (const TypeRow& row : TYPES)
        if (row.type == type) return row;
    throw BundleError("a tensor of no known type");
}

std::uint32_t bits_of(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

float float_of(std::uint32_t bits) {
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The value without its lowest `bits` bits, rounded half to even.
std::uint32_t round_shift(std::uint32_t value, unsigned bits) {
    const std::uint32_t kept = value >> bits, rest = value & ((1U << bits) - 1), half = 1U << (bits - 1);
    return kept + (rest > half || (rest == half && (kept & 1U) != 0) ? 1 : 0);
}

std::uint16_t to_half(float value) {
    const std::uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000U, magnitude = bits & 0x7FFFFFFFU;
    std::uint32_t half = 0;
    if (magnitude > 0x7F800000U)
        half = 0x7E00;  // no number
    else if (magnitude >= 0x47800000U)
        half = 0x7C00;  // 65536 and above
    else if (magnitude >= 0x38800000U)
        half = round_shift(magnitude - 0x38000000U, 13);
    else if (magnitude >= 0x33000000U)  // below the smallest normal one, 2^-14
        half = round_shift((magnitude & 0x7FFFFFU) | 0x800000U, 126 - (magnitude >> 23));
    return static_cast<std::uint16_t>(sign | half);
}

float from_half(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16, magnitude = half & 0x7FFFU;
    if (magnitude >= 0x7C00) return float_of(sign | 0x7F800000U | (magnitude & 0x3FFU) << 13);
    if (magnitude >= 0x400) return float_of(sign | ((magnitude << 13) + 0x38000000U));
    return (sign != 0 ? -1.0F : 1.0F) * static_cast<float>(magnitude) / 16777216.0F;  // 2^24
}

std::uint16_t to_bfloat(float value) {
    const std::uint32_t bits = bits_of(value);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
    return static_cast<std::uint16_t>(round_shift(bits, 16));
}

template <typename Value>
Tensor of_values(Type type, const std::vector<Value>& values, Shape shape) {
    Tensor tensor{type, std::move(shape), std::vector<unsigned char>(values.size() * sizeof(Value))};
    if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
    return tensor;
}

}  // namespace

Type find_type(const std::string& name) {
    for (const TypeRow& row : TYPES)
        if (name == row.name) return row.type;
    throw BundleError("a tensor is of type \"" + name + "\", which is not covered");
}

std::string name_type(Type type) { return find_row(type).name; }
std::size_t size_of(Type type) { return find_row(type).size; }

std::int64_t count_values(const Shape& shape) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) {
        if (size < 0 || (size > 0 && count > MOST_VALUES / size))
            throw BundleError("a tensor of shape " + show_shape(shape) + ", expected at most " + std::to_string(MOST_VALUES) + " values");
        count *= size;
    }
    return count;
}

std::string show_shape(const Shape& shape) {
    std::string text;
    for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    return "[" + text + "]";
}

Tensor Tensor::zeros(Type type, Shape shape) {
    const auto count = static_cast<std::size_t>(count_values(shape));
    return {type, std::move(shape), std::vector<unsigned char>(count * size_of(type), 0)};
}

Tensor Tensor::of_floats(const std::vector<float>& values, Shape shape) { return of_values(Type::float32, values, std::move(shape)); }

Tensor Tensor::of_integers(const std::vector<std::int64_t>& values, Shape shape) {
    return of_values(Type::int64, values, std::move(shape));
}

std::vector<float> Tensor::floats() const {
    if (!is_float()) throw BundleError("a tensor of " + name_type(type) + " where floats are expected");
    std::vector<float> values(bytes.size() / size_of(type));
    if (type == Type::float32) {
        if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
        return values;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, bytes.data() + 2 * i, 2);
        values[i] = type == Type::float16 ? from_half(bits) : float_of(static_cast<std::uint32_t>(bits) << 16);
    }
    return values;
}

Tensor Tensor::to(Type other) const {
    if (type == other) return *this;
    if (!is_float() || !Tensor{other, {}, {}}.is_float())
        throw BundleError("a value of " + name_type(type) + " is read as " + name_type(other) + "; export the bundle again");
    const std::vector<float> values = floats();
    if (other == Type::float32) return of_floats(values, shape);
    std::vector<std::uint16_t> halves(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) halves[i] = other == Type::float16 ? to_half(values[i]) : to_bfloat(values[i]);
    return of_values(other, halves, shape);
}

}  // namespace sprint_export
