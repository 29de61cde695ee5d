// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "SprintDraw",
    platforms: [.iOS(.v17), .macOS(.v14)],  // 17 and 14: asynchronous prediction
    products: [
        .library(name: "SprintDraw", targets: ["SprintDraw"]),
        .library(name: "SprintDrawView", targets: ["SprintDrawView"]),
        .executable(name: "sprint-draw", targets: ["sprint-draw"]),
    ],
    dependencies: [
        // Reads tokenizer.json. Pinned: token ids are part of the model, a change there is a change of the picture.
        .package(url: "https://github.com/huggingface/swift-transformers", exact: "1.3.3")
    ],
    targets: [
        .target(name: "SprintDraw", dependencies: [.product(name: "Tokenizers", package: "swift-transformers")]),
        .target(name: "SprintDrawView", dependencies: ["SprintDraw"]),
        .executableTarget(name: "sprint-draw", dependencies: ["SprintDraw"]),
        .testTarget(name: "SprintDrawTests", dependencies: ["SprintDraw"], resources: [.copy("Fixture")]),
    ]
)
