// Pictures that a caller gives, as networks read them: resized to the picture that is drawn, float32 in [-1, 1].
#ifndef SPRINT_EXPORT_RESIZING_H
#define SPRINT_EXPORT_RESIZING_H

#include "sprint_export/sprint_export.h"

namespace sprint_export {

// By Lanczos, in the integers of Pillow's resize, so that values are those of the Python package.
Picture resize(const Picture& picture, int height, int width);

// float32 [3, height, width], p = 2 (v / 255) - 1; throws InputError where it is no picture.
std::vector<float> fit_picture(const std::string& name, const Picture& picture, int height, int width);

}  // namespace sprint_export

#endif
