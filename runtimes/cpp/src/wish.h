// What is drawn: a size, the steps that run, their noise and given pictures, all checked before a network runs.
#ifndef SPRINT_EXPORT_WISH_H
#define SPRINT_EXPORT_WISH_H

#include <optional>

#include "app.h"
#include "executor.h"
#include "sprint_export/sprint_export.h"

namespace sprint_export {

// Throws InputError where that cannot be drawn. `has_noise`: false leaves the noise out, for a check alone.
Wish read_wish(const App& app, const DrawOptions& asked, bool has_noise = true);

// What optional networks are given, by name: the control picture with its scale, and `inputs`; throws InputError.
Values read_given(const App& app, const DrawOptions& asked, const Units& units);

// The picture to start from, as its encoder reads it, or none; throws InputError.
std::optional<Tensor> read_start(const App& app, const DrawOptions& asked, const Units& units);

// The stage that makes a state without noise of a picture; null where there is none.
const Stage* find_encoder(const App& app);

}  // namespace sprint_export

#endif
