import CoreML
import Foundation

/// The fields of `bundle.json` that drawing needs, under their names in sprint_export/nouns (snake case there).
public struct Manifest: Decodable, Sendable {
    public static let readsFormat = 6

    public let format: Int
    public let target: String
    public let options: Options
    public let plan: StepPlan
    public let prompt: PromptPlan
    public let latentShape: [Int]
    public let components: [Component]
    public let artifacts: [Artifact]
}

public struct Options: Decodable, Sendable {
    public let deploymentTarget: String?
    public let computeUnit: String?
}

/// Sampling times as flow times, noise first. One network may serve several step counts: their times then stand one after
/// the other, and `counts` says how many belong to each, the default first.
public struct StepPlan: Decodable, Sendable {
    public let times: [Double]
    public let counts: [Int]?
    public var startsFromNoise: Bool?

    /// Where a schedule's times stand in `times`; the place is also what the network's input `step` takes.
    func rows(_ steps: Int?) throws -> Range<Int> {
        var known = self.counts ?? []
        if known.isEmpty { known = [times.count] }
        let wanted = steps ?? known[0]
        guard let place = known.firstIndex(of: wanted), known.allSatisfy({ $0 > 0 }), known.reduce(0, +) == times.count else {
            throw DrawError(
                found: "\(wanted) steps, \(times.count) times", expected: "one of \(known)",
                remedy: "choose one of these, or export with --steps")
        }
        let start = known[..<place].reduce(0, +)
        return start..<(start + wanted)
    }
}

/// `prefix` + the prompt + `suffix`, padded right to `tokens`; the encoder keeps the last positions, `keep` of them with the first
/// where `keepsFirst`. Where `prefixIds` are given, it holds what it makes of them and is fed the ids after them. `cuts`: a longer text is cut.
public struct PromptPlan: Decodable, Sendable {
    public let prefix: String
    public let lower: Bool
    public let tokens: Int
    public let keep: Int
    public let padId: Int
    public let prefixIds: [Int]
    public let cuts: Bool
    public let vocabulary: Int
    public let suffix: String
    public let strips: Bool
    public let keepsFirst: Bool

    /// How many of the last positions are kept.
    var last: Int { keepsFirst ? keep - 1 : keep }
}

public struct TensorSpec: Decodable, Sendable {
    public let name: String
    public let dtype: String
    public let shape: [Int]
}

/// One package of a component; its inputs are the component's inputs or outputs of parts before it.
public struct Part: Decodable, Sendable {
    public let graph: String
    public let inputs: [TensorSpec]
    public let outputs: [TensorSpec]
}

public struct Component: Decodable, Sendable {
    public let role: String
    public let inputs: [TensorSpec]
    public let outputs: [TensorSpec]
    public let parts: [Part]
}

public struct Artifact: Decodable, Sendable {
    public let path: String
    public let bytes: Int
    public let sha256: String
}

/// A bundle's folder and what its manifest says. A bundle is untrusted input: no path in it may leave the folder.
public struct ModelBundle: Sendable {
    public let folder: URL
    public let manifest: Manifest

    /// Read `bundle.json` and check what can be checked without the weights. The manifest's hash of itself is not compared: it is
    /// over numbers as Python writes them. In an app the bundle is part of what is signed; `sprint-export inspect` compares it.
    public init(folder: URL) throws {
        let file = folder.appending(path: "bundle.json")
        let again = "export it again with: sprint-export --target coreml-int8"
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let manifest: Manifest
        do {
            manifest = try decoder.decode(Manifest.self, from: Data(contentsOf: file))
        } catch {
            throw DrawError(found: "\(file.path): \(error)", expected: "the manifest of a bundle", remedy: again)
        }
        func check(_ holds: Bool, _ found: String, _ expected: String) throws {
            if !holds { throw DrawError(found: "\(found) in \(file.path)", expected: expected, remedy: again) }
        }
        let prompt = manifest.prompt
        let latent = manifest.latentShape
        try check(manifest.format == Manifest.readsFormat, "format \(manifest.format)", "\(Manifest.readsFormat)")
        try check(manifest.target == "coreml", "target \(manifest.target)", "coreml")
        try check(!manifest.plan.times.isEmpty, "no sampling times", "one or more")
        try check(prompt.keep >= 1 && prompt.keep <= prompt.tokens, "keep \(prompt.keep)", "1 to \(prompt.tokens)")
        try check(manifest.plan.startsFromNoise != true, "a start from the noise itself", "SANA-Sprint's")
        try check(prompt.suffix.isEmpty && prompt.strips && prompt.keepsFirst, "a prompt of another family", "SANA-Sprint's")
        let held = prompt.prefixIds.count
        try check(held == 0 || held == prompt.tokens - prompt.keep + 1, "\(held) prefix_ids", "none, or all before those kept")
        let ids = prompt.prefixIds + [prompt.padId]
        try check(ids.allSatisfy { $0 >= 0 && $0 < prompt.vocabulary }, "ids \(ids)", "0 to \(prompt.vocabulary - 1)")
        try check(manifest.plan.times.allSatisfy { $0 > 0 && $0 <= 1.01 }, "times \(manifest.plan.times)", "above 0, up to 1.01")
        try check(latent.count == 3 && latent.allSatisfy { $0 > 0 }, "latent_shape \(latent)", "[C, h, w]")
        for component in manifest.components {
            try check(!component.parts.isEmpty, "\(component.role) without parts", "one or more")
        }
        let paths = manifest.artifacts.map(\.path) + manifest.components.flatMap { c in c.parts.map { "\(c.role)/\($0.graph)" } }
        for path in paths {
            let stays = !path.hasPrefix("/") && !path.split(separator: "/").contains("..")
            try check(stays, "the path \(path)", "a path inside the bundle")
        }
        (self.folder, self.manifest) = (folder, manifest)
    }

    public func component(_ role: String) throws -> Component {
        guard let found = manifest.components.first(where: { $0.role == role }) else {
            throw DrawError(
                found: manifest.components.map(\.role).joined(separator: ", "), expected: "a component \(role)",
                remedy: "export without --component: a picture takes all three")
        }
        return found
    }

    /// The `.mlpackage` folder of a part, relative to the bundle.
    func package(of part: Part, role: String) throws -> String {
        let names = part.graph.split(separator: "/")
        guard let last = names.firstIndex(where: { $0.hasSuffix(".mlpackage") }) else {
            throw DrawError(found: "graph \(part.graph)", expected: "a path in an .mlpackage", remedy: "export the bundle again")
        }
        return ([role] + names[...last].map(String.init)).joined(separator: "/")
    }

    /// The Core ML name of the unit the bundle was laid out for.
    func computeUnits() throws -> MLComputeUnits {
        switch manifest.options.computeUnit {
        case "neural-engine": return .cpuAndNeuralEngine
        case "gpu": return .cpuAndGPU
        case "cpu": return .cpuOnly
        case "all": return .all
        case let other:
            throw DrawError(
                found: "compute unit \(other ?? "null")", expected: "neural-engine, gpu, cpu or all",
                remedy: "export the bundle again, or update this package")
        }
    }
}
