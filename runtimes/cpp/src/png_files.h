// Bounds of pictures, and what is asked of one that is given.
#ifndef SPRINT_EXPORT_PNG_FILES_H
#define SPRINT_EXPORT_PNG_FILES_H

#include "sprint_export/sprint_export.h"

namespace sprint_export {

constexpr std::size_t MOST_PIXELS = std::size_t{1} << 27;  // 134 megapixels

// As the public one, with another bound: it is compared before pixels are unpacked.
Picture decode_png(const std::vector<std::uint8_t>& file, std::size_t most_pixels);

void check_picture(const Picture& picture, const std::string& name);  // throws InputError unless it has three values a pixel

}  // namespace sprint_export

#endif
