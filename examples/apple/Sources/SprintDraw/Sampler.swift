import Foundation

/// sprint_export/sampler.py in flow time s, 1 = noise: start x = s_0 eps; then x = (1 - s_i) x0 + s_i eps_i.
struct Sampler {
    let times: [Double]
    let noise: [[Float]]  // one array of unit variance per step

    /// Cut flat noise [steps, C, h, w] into steps.
    init(times: [Double], noise: [Float], latentShape: [Int]) throws {
        let size = latentShape.reduce(1, *)
        guard noise.count == times.count * size else {
            throw DrawError(
                found: "\(noise.count) noise values", expected: "\(times.count) x \(latentShape) = \(times.count * size)",
                remedy: "write float32 [steps, C, h, w]; the README shows how")
        }
        self.times = times
        self.noise = times.indices.map { Array(noise[($0 * size)..<(($0 + 1) * size)]) }
    }

    func start() -> [Float] { noise[0].map { $0 * Float(times[0]) } }

    func next(from x0: [Float], step: Int) -> [Float] {
        let (keep, add) = (Float(1 - times[step]), Float(times[step]))
        return zip(x0, noise[step]).map { keep * $0 + add * $1 }
    }
}

/// Noise of unit variance. The seeded one is this package's own; Python's comes as a file of little-endian float32.
public enum Noise {
    public static func make(count: Int, seed: UInt64) -> [Float] {
        var generator = SplitMix64(state: seed)
        return (0..<count).map { _ in  // Box and Muller
            let radius = (-2 * log(1 - Double.random(in: 0..<1, using: &generator))).squareRoot()
            return Float(radius * cos(2 * .pi * Double.random(in: 0..<1, using: &generator)))
        }
    }

    public static func read(_ file: URL) throws -> [Float] {
        let data = try Data(contentsOf: file)
        let size = MemoryLayout<UInt32>.size
        guard data.count % size == 0 else {
            throw DrawError(found: "\(file.path) with \(data.count) bytes", expected: "raw float32", remedy: "see the README")
        }
        return data.withUnsafeBytes { raw in
            stride(from: 0, to: raw.count, by: size).map { offset in
                Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            }
        }
    }
}

/// Steele, Lea and Flood's generator: small, and the same on every device.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
