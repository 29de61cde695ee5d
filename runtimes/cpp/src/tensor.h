// Values between networks: bytes with a type and a shape.
#ifndef SPRINT_EXPORT_TENSOR_H
#define SPRINT_EXPORT_TENSOR_H

#include <cstdint>
#include <string>
#include <vector>

namespace sprint_export {

using Shape = std::vector<std::int64_t>;
constexpr std::int64_t MOST_VALUES = std::int64_t{1} << 30;  // of one tensor

enum class Type { float32, float16, bfloat16, int64, int32, boolean };

Type find_type(const std::string& name);  // of app.json's names, which are numpy's
std::string name_type(Type type);
std::size_t size_of(Type type);  // bytes of one value

std::int64_t count_values(const Shape& shape);  // throws BundleError above MOST_VALUES
std::string show_shape(const Shape& shape);

struct Tensor {
    Type type = Type::float32;
    Shape shape;
    std::vector<unsigned char> bytes;

    static Tensor zeros(Type type, Shape shape);
    static Tensor of_floats(const std::vector<float>& values, Shape shape);
    static Tensor of_integers(const std::vector<std::int64_t>& values, Shape shape);

    std::vector<float> floats() const;  // of a tensor of any float type
    Tensor to(Type other) const;        // another float type, rounding half to even; itself where it is of that type
    bool is_float() const { return type == Type::float32 || type == Type::float16 || type == Type::bfloat16; }
};

}  // namespace sprint_export

#endif
