import CoreML
import XCTest

@testable import SprintDraw

final class SprintDrawTests: XCTestCase {
    private func fixture() throws -> ModelBundle { try ModelBundle(folder: fixtureFolder()) }

    private func fixtureFolder() throws -> URL {
        try XCTUnwrap(Bundle.module.url(forResource: "Fixture", withExtension: nil))
    }

    /// The fixture with one text replaced in its manifest.
    private func changed(_ old: String, _ new: String) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let text = try String(contentsOf: fixtureFolder().appending(path: "bundle.json"), encoding: .utf8)
        XCTAssert(text.contains(old))
        try Data(text.replacingOccurrences(of: old, with: new).utf8).write(to: folder.appending(path: "bundle.json"))
        try FileManager.default.copyItem(
            at: fixtureFolder().appending(path: "tokenizer"), to: folder.appending(path: "tokenizer"))
        return folder
    }

    private func assertRefused(_ folder: URL, _ words: String, line: UInt = #line) {
        XCTAssertThrowsError(try ModelBundle(folder: folder), line: line) { error in
            XCTAssert(error.localizedDescription.contains(words), error.localizedDescription, line: line)
        }
    }

    func testManifestGivesPartsPackagesAndUnit() throws {
        let bundle = try fixture()
        let transformer = try bundle.component("transformer")
        XCTAssertEqual(transformer.parts.count, 3)
        XCTAssertEqual(try bundle.package(of: transformer.parts[1], role: "transformer"), "transformer/model_2.mlpackage")
        XCTAssertEqual(transformer.parts[0].outputs.map(\.dtype), ["float16", "float16", "float16"])
        XCTAssertEqual(try bundle.computeUnits(), .cpuAndNeuralEngine)
        XCTAssertEqual(bundle.manifest.latentShape, [16, 8, 8])
        XCTAssertEqual(bundle.manifest.prompt.padId, 0)
        XCTAssertThrowsError(try bundle.component("controlnet"))
    }

    func testManifestsAreRefused() throws {
        assertRefused(FileManager.default.temporaryDirectory, "expected the manifest of a bundle")
        assertRefused(try changed("\"format\": 5", "\"format\": 9"), "found format 9")
        assertRefused(try changed("\"target\": \"coreml\"", "\"target\": \"onnx\""), "found target onnx")
        assertRefused(try changed("\"path\": \"vae_decoder/", "\"path\": \"../"), "expected a path inside the bundle")
        assertRefused(try changed("\"keep\": 8", "\"keep\": 9"), "expected 1 to 8")
    }

    func testPromptsBecomePythonsIdsAndMask() async throws {
        let reader = try await PromptReader(bundle: fixture())
        let (ids, mask) = try reader.read(Literals.prompt)
        XCTAssertEqual(ids, Literals.ids)
        XCTAssertEqual(mask, Literals.mask)
        XCTAssertEqual(try reader.read(Literals.longPrompt).ids, Literals.longIds)
    }

    func testPromptsThatDoNotFitAreRefused() async throws {
        for (old, new, words) in [
            ("\"prefix_ids\": [2]", "\"prefix_ids\": [9]", "expected the instruction's own tokens"),
            ("\"cuts\": true", "\"cuts\": false", "found a prompt of 16 tokens; expected at most 7"),
        ] {
            let reader = try await PromptReader(bundle: ModelBundle(folder: changed(old, new)))
            XCTAssertThrowsError(try reader.read(Literals.longPrompt)) { error in
                XCTAssert(error.localizedDescription.contains(words), error.localizedDescription)
            }
        }
    }

    func testOneNetworkServesSeveralStepCounts() throws {
        let plan = StepPlan(times: [1, 1, 0.5, 1, 0.7, 0.5, 0.2], counts: [2, 1, 4])
        XCTAssertEqual(try plan.rows(nil), 0..<2)
        XCTAssertEqual(try plan.rows(4), 3..<7)
        XCTAssertEqual(try StepPlan(times: [1, 0.5], counts: []).rows(nil), 0..<2)
        XCTAssertThrowsError(try plan.rows(3)) { XCTAssert($0.localizedDescription.contains("expected one of [2, 1, 4]")) }
    }

    func testSamplerGivesPythonsNumbers() throws {
        let sampler = try Sampler(times: Literals.times, noise: Literals.noise, latentShape: [3, 1, 1])
        var x = sampler.start()
        for step in Literals.times.indices {
            if step > 0 { x = sampler.next(from: x, step: step) }
            x = x.map { $0 * 0.5 + Float(step) }
        }
        for (found, expected) in zip(x, Literals.sampled) { XCTAssertEqual(found, expected, accuracy: 1e-6) }
        XCTAssertThrowsError(try Sampler(times: [1], noise: [0, 0], latentShape: [3, 1, 1])) { error in
            XCTAssert(error.localizedDescription.contains("found 2 noise values; expected 1 x [3, 1, 1] = 3"))
        }
    }

    func testNoiseHasUnitVarianceAndItsSeed() throws {
        let noise = Noise.make(count: 20_000, seed: 7)
        let mean = noise.reduce(0, +) / Float(noise.count)
        XCTAssertEqual(mean, 0, accuracy: 0.05)
        XCTAssertEqual(noise.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Float(noise.count), 1, accuracy: 0.05)
        XCTAssertEqual(noise, Noise.make(count: 20_000, seed: 7))
        let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try Literals.noise.withUnsafeBytes { Data($0) }.write(to: file)
        XCTAssertEqual(try Noise.read(file), Literals.noise)
    }

    func testPicturesAreRoundedAsPythonDoes() throws {
        let picture = try Picture(image: Literals.image, shape: [1, 3, 2, 3])
        XCTAssertEqual(picture.pixels, Literals.pixels)
        XCTAssertEqual(try picture.psnr(against: Literals.pixels), .infinity)
        XCTAssertEqual(try picture.makeImage().width, 3)
        var broken = Literals.image
        broken[4] = .nan
        XCTAssertThrowsError(try Picture(image: broken, shape: [1, 3, 2, 3]))
    }

    /// Core ML's own conversion is what reads padded rows; this holds it to that.
    func testPaddedRowsAreReadThroughStrides() throws {
        var stored: [Float] = [1, 2, 3, -1, 4, 5, 6, -1]
        let found = try stored.withUnsafeMutableBytes { bytes -> [Float] in
            let start = try XCTUnwrap(bytes.baseAddress)
            let padded = try MLMultiArray(dataPointer: start, shape: [2, 3], dataType: .float32, strides: [4, 1])
            return Network.scalars(of: padded)
        }
        XCTAssertEqual(found, [1, 2, 3, 4, 5, 6])
    }

    func testInputsTakeTheManifestsShapes() throws {
        let network = try Network(bundle: fixture(), role: "text_encoder", keepsParts: false)
        let value = try network.input("input_ids", Literals.ids)
        XCTAssertEqual(value.multiArrayValue?.shape, [1, 7])
        XCTAssertEqual(value.multiArrayValue?.dataType, .int32)
        XCTAssertThrowsError(try network.input("input_ids", [Int32(1)]))
    }
}
