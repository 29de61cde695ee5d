import CoreML
import Foundation

/// A picture, and where its time went.
public struct Drawing: Sendable {
    public let picture: Picture
    public let timings: [Timing]
    public let seconds: Double
}

/// Prompts to pictures over a bundle, as `Pipeline` of sprint_export/session.py does it.
///
/// Components are loaded one after the other and released, so that memory is that of the largest.
/// `keepsLoaded` keeps all of them: for Macs.
public actor Pipeline {
    public nonisolated let bundle: ModelBundle
    private let reader: PromptReader
    private let keepsLoaded: Bool
    private var kept: [String: Network] = [:]
    private var timings: [Timing] = []
    private var isDrawing = false

    public init(folder: URL, keepsLoaded: Bool = false) async throws {
        let bundle = try ModelBundle(folder: folder)
        reader = try await PromptReader(bundle: bundle)
        self.bundle = bundle
        self.keepsLoaded = keepsLoaded
    }

    /// Draw one picture.
    ///
    /// - Parameters:
    ///   - noise: unit variance, flat [steps, C, h, w]; `seed` makes it where it is nil.
    ///   - steps: one of the step counts the bundle was made for; its default where nil.
    public func draw(
        _ prompt: String, noise: [Float]? = nil, seed: UInt64 = 0, steps: Int? = nil
    ) async throws -> Drawing {
        guard !isDrawing else {
            throw DrawError(found: "a picture under way", expected: "none", remedy: "wait for it: two need the memory twice")
        }
        isDrawing = true
        defer { isDrawing = false }
        timings = []
        let start = ContinuousClock.now
        let manifest = bundle.manifest
        let rows = try manifest.plan.rows(steps)
        let count = manifest.latentShape.reduce(rows.count, *)
        let sampler = try Sampler(
            times: Array(manifest.plan.times[rows]), noise: noise ?? Noise.make(count: count, seed: seed),
            latentShape: manifest.latentShape)
        let (ids, mask) = try reader.read(prompt)
        let embeds = try await encode(ids)
        let latents = try await sample(sampler, rows: rows, embeds: embeds, mask: mask)
        let picture = try await decode(latents)
        return Drawing(picture: picture, timings: timings, seconds: start.duration(to: .now) / .seconds(1))
    }

    /// Token ids and mask of a prompt, to compare with Python's.
    public func read(_ prompt: String) throws -> (ids: [Int32], mask: [Int32]) { try reader.read(prompt) }

    private func encode(_ ids: [Int32]) async throws -> [Float] {
        let network = try self.network("text_encoder")
        defer { timings += network.takeTimings() }
        return try await network.output(of: ["input_ids": network.input("input_ids", ids)], named: "prompt_embeds")
    }

    private func sample(_ sampler: Sampler, rows: Range<Int>, embeds: [Float], mask: [Int32]) async throws -> [Float] {
        let network = try self.network("transformer")
        defer { timings += network.takeTimings() }
        var feeds = try [
            "prompt_embeds": network.input("prompt_embeds", embeds), "prompt_mask": network.input("prompt_mask", mask),
        ]
        var x = sampler.start()
        for step in sampler.times.indices {
            if step > 0 { x = sampler.next(from: x, step: step) }
            feeds["latents"] = try network.input("latents", x)
            if bundle.manifest.plan.times.count > 1 { feeds["step"] = try network.input("step", [Int32(rows.lowerBound + step)]) }
            x = try await network.output(of: feeds, named: "denoised")
        }
        return x
    }

    private func decode(_ latents: [Float]) async throws -> Picture {
        let network = try self.network("vae_decoder")
        defer { timings += network.takeTimings() }
        let image = try await network.output(of: ["latents": network.input("latents", latents)], named: "image")
        return try Picture(image: image, shape: bundle.component("vae_decoder").outputs.first { $0.name == "image" }?.shape ?? [])
    }

    private func network(_ role: String) throws -> Network {
        if let network = kept[role] { return network }
        let network = try Network(bundle: bundle, role: role, keepsParts: keepsLoaded)
        if keepsLoaded { kept[role] = network }
        return network
    }
}
