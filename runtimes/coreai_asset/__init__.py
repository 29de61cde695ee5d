"""Target `coreai`: Core AI assets for iOS 27 and macOS 27, run by the CPU runtime of Apple's package."""
