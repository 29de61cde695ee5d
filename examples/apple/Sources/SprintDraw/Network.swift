import CoreML
import CryptoKit
import Foundation

/// Seconds one component spent compiling, loading or running, over its parts.
public struct Timing: Sendable {
    public enum Phase: String, Sendable, CaseIterable { case compile, load, run }
    public let role: String
    public let phase: Phase
    public let seconds: Double
}

/// One component of a bundle: its packages, run one after the other.
///
/// A single package stays loaded as long as this object lives. Of several, one is in memory at a time unless `keepsParts`.
/// The first load on a device compiles, and keeps the result in the caches folder under the sha256 of the package's files.
final class Network {
    private let bundle: ModelBundle
    private let component: Component
    private let keepsParts: Bool
    private var loaded: [Int: MLModel] = [:]
    private var seconds: [Timing.Phase: Double] = [:]

    init(bundle: ModelBundle, role: String, keepsParts: Bool) throws {
        let component = try bundle.component(role)
        self.bundle = bundle
        self.component = component
        self.keepsParts = keepsParts || component.parts.count == 1
    }

    /// Where compiled models are kept; delete it to measure a cold start.
    static var cache: URL { URL.cachesDirectory.appending(path: "SprintDraw") }

    /// An input of the component, in the shape the manifest gives it.
    func input<Scalar: MLShapedArrayScalar>(_ name: String, _ scalars: [Scalar]) throws -> MLFeatureValue {
        guard let spec = component.inputs.first(where: { $0.name == name }), spec.shape.reduce(1, *) == scalars.count else {
            throw DrawError(
                found: "\(scalars.count) values for \(name)",
                expected: component.inputs.map { "\($0.name) \($0.shape)" }.joined(separator: ", ") + " in \(component.role)",
                remedy: "export the bundle again, or update this package")
        }
        return MLFeatureValue(multiArray: MLMultiArray(MLShapedArray(scalars: scalars, shape: spec.shape)))
    }

    /// Inputs by name -> outputs by name. What one part hands to the next is never converted.
    func run(_ feeds: [String: MLFeatureValue]) async throws -> [String: MLFeatureValue] {
        var known = feeds
        var last: [String: MLFeatureValue] = [:]
        for (index, part) in component.parts.enumerated() {
            let model = try await self.model(at: index)
            let given = try MLDictionaryFeatureProvider(dictionary: pick(part.inputs, from: known, typed: true))
            let start = ContinuousClock.now
            let found = try await model.prediction(from: given)
            count(.run, since: start)
            let named = Dictionary(uniqueKeysWithValues: found.featureNames.map { ($0, found.featureValue(for: $0)) })
            last = try pick(part.outputs, from: named.compactMapValues { $0 }, typed: false)
            known.merge(last) { $1 }
        }
        return last
    }

    /// The component's only output, as float32.
    func output(of feeds: [String: MLFeatureValue], named name: String) async throws -> [Float] {
        guard let array = try await run(feeds)[name]?.multiArrayValue else {
            throw missing(name, among: component.outputs.map(\.name))
        }
        return Self.scalars(of: array)
    }

    /// Values in order, read through the array's strides: a Neural Engine pads rows.
    static func scalars(of array: MLMultiArray) -> [Float] { MLShapedArray<Float>(converting: array).scalars }

    /// What was timed since the last call.
    func takeTimings() -> [Timing] {
        defer { seconds = [:] }
        return Timing.Phase.allCases.compactMap { phase in
            seconds[phase].map { Timing(role: component.role, phase: phase, seconds: $0) }
        }
    }

    private func model(at index: Int) async throws -> MLModel {
        if let model = loaded[index] { return model }
        let package = try bundle.package(of: component.parts[index], role: component.role)
        let configuration = MLModelConfiguration()
        configuration.computeUnits = try bundle.computeUnits()
        let compiled = try await compile(package)
        let start = ContinuousClock.now
        do {
            let model = try await MLModel.load(contentsOf: compiled, configuration: configuration)
            count(.load, since: start)
            if keepsParts { loaded[index] = model }
            return model
        } catch {
            try? FileManager.default.removeItem(at: compiled)  // it may be damaged, or of another system
            throw refused(package, error)
        }
    }

    private func compile(_ package: String) async throws -> URL {
        let files = bundle.manifest.artifacts.filter { $0.path.hasPrefix(package + "/") }
        guard !files.isEmpty else { throw missing(package, among: bundle.manifest.artifacts.map(\.path)) }
        let key = hex(SHA256.hash(data: Data(files.map(\.sha256).joined().utf8)))
        let place = Self.cache.appending(path: "\(key).mlmodelc")
        if FileManager.default.fileExists(atPath: place.path) { return place }
        try files.forEach(verify)
        let start = ContinuousClock.now
        do {
            let fresh = try await MLModel.compileModel(at: bundle.folder.appending(path: package))
            try FileManager.default.createDirectory(at: Self.cache, withIntermediateDirectories: true)
            try FileManager.default.moveItem(at: fresh, to: place)
        } catch {
            throw refused(package, error)
        }
        count(.compile, since: start)
        return place
    }

    private func verify(_ file: Artifact) throws {
        let data = try Data(contentsOf: bundle.folder.appending(path: file.path), options: .alwaysMapped)
        guard data.count == file.bytes, hex(SHA256.hash(data: data)) == file.sha256 else {
            throw DrawError(
                found: "\(file.path) with \(data.count) bytes and another sha256",
                expected: "\(file.bytes) bytes, \(file.sha256)", remedy: "copy or export the bundle again")
        }
    }

    /// The tensors a part takes or gives, by name, in the shape the manifest promises and, going in, in its type.
    ///
    /// Coming out the type is free: devices were seen to give float16 where float32 was declared, and `scalars` converts.
    private func pick(
        _ specs: [TensorSpec], from values: [String: MLFeatureValue], typed: Bool
    ) throws -> [String: MLFeatureValue] {
        let types: [MLMultiArrayDataType: String] = [.float32: "float32", .float16: "float16", .int32: "int32"]
        var chosen: [String: MLFeatureValue] = [:]
        for spec in specs {
            guard let value = values[spec.name], let array = value.multiArrayValue else {
                throw missing(spec.name, among: values.keys.sorted())
            }
            let (type, shape) = (types[array.dataType] ?? "another type", array.shape.map(\.intValue))
            guard shape == spec.shape, type == spec.dtype || !typed else {
                throw DrawError(
                    found: "\(spec.name): \(type) \(shape) in \(component.role)", expected: "\(spec.dtype) \(spec.shape)",
                    remedy: "bundle.json and packages are not of one export; export again")
            }
            chosen[spec.name] = value
        }
        return chosen
    }

    private func missing(_ name: String, among names: [String]) -> DrawError {
        DrawError(
            found: names.joined(separator: ", "), expected: "\(name), for \(component.role)",
            remedy: "bundle.json and packages are not of one export; export again")
    }

    private func refused(_ package: String, _ error: any Error) -> DrawError {
        DrawError(
            found: "Core ML refused \(package): \(error.localizedDescription)",
            expected: "a package for \(bundle.manifest.options.deploymentTarget ?? "this system") or newer",
            remedy: "try once more; else export with --deployment-target for this system")
    }

    private func count(_ phase: Timing.Phase, since start: ContinuousClock.Instant) {
        seconds[phase, default: 0] += start.duration(to: .now) / .seconds(1)
    }
}

func hex(_ digest: SHA256.Digest) -> String { digest.map { String(format: "%02x", $0) }.joined() }
