# OnnxRuntime::OnnxRuntime: a release archive of ONNX Runtime, Debian's libonnxruntime-dev, or a folder by fetch_dependencies.sh.
#
# Looked for below CMAKE_PREFIX_PATH and ONNXRUNTIME_ROOT; or said with ONNXRUNTIME_INCLUDE_DIR and ONNXRUNTIME_LIBRARY.
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h HINTS "${ONNXRUNTIME_ROOT}" PATH_SUFFIXES include include/onnxruntime
  include/onnxruntime/core/session)
find_library(ONNXRUNTIME_LIBRARY NAMES onnxruntime HINTS "${ONNXRUNTIME_ROOT}" PATH_SUFFIXES lib)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntime REQUIRED_VARS ONNXRUNTIME_LIBRARY ONNXRUNTIME_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "set ONNXRUNTIME_ROOT to a folder with include/ and lib/ of ONNX Runtime 1.21 or newer")

if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::OnnxRuntime)
  add_library(OnnxRuntime::OnnxRuntime UNKNOWN IMPORTED)
  set_target_properties(OnnxRuntime::OnnxRuntime PROPERTIES IMPORTED_LOCATION "${ONNXRUNTIME_LIBRARY}")
  target_include_directories(OnnxRuntime::OnnxRuntime SYSTEM INTERFACE "${ONNXRUNTIME_INCLUDE_DIR}")
endif()
mark_as_advanced(ONNXRUNTIME_INCLUDE_DIR ONNXRUNTIME_LIBRARY)
