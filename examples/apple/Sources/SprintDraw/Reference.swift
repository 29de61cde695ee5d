import Foundation

/// What Python made of a bundle, a prompt and noise (`make_reference.py`), to hold a device against.
public struct Reference: Decodable, Sendable {
    public let prompt: String
    public let ids: [Int32]
    public let mask: [Int32]
    public let noise: [Float]
    public let picture: [UInt8]
    public let minPsnrDb: Double

    public init(file: URL) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            self = try decoder.decode(Reference.self, from: Data(contentsOf: file))
        } catch {
            throw DrawError(found: "\(file.path): \(error)", expected: "a reference", remedy: "make one with make_reference.py")
        }
    }

    /// Draw the same picture; each line starts with "ok" or "WRONG".
    public func check(_ pipeline: Pipeline) async throws -> (passed: Bool, lines: [String]) {
        let tokens = try await pipeline.read(prompt)
        let psnr = try await pipeline.draw(prompt, noise: noise).picture.psnr(against: picture)
        let rows = [
            (tokens.ids == ids, "token ids"),
            (tokens.mask == mask, "prompt mask"),
            (psnr >= minPsnrDb, String(format: "picture: %.1f dB, at least %.1f", psnr, minPsnrDb)),
        ]
        return (rows.allSatisfy { $0.0 }, rows.map { "\($0.0 ? "ok   " : "WRONG") \($0.1)" })
    }
}
