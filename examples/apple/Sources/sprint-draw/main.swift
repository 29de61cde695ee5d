import Foundation
import SprintDraw

struct Request {
    static let usage = """
        sprint-draw BUNDLE PROMPT [-o picture.png] [--seed N] [--noise FILE.f32] [--steps N] [--runs N] [--keep]
        sprint-draw BUNDLE --check reference.json

        --noise   raw little-endian float32 [steps, C, h, w], e.g. from Python; --seed makes this package's own
        --runs    draw N more pictures and print percentiles; delete ~/Library/Caches/SprintDraw for a cold start
        --keep    keep all networks in memory between pictures
        """

    static let named = ["-o", "--seed", "--noise", "--steps", "--runs", "--check"]

    var values: [String: String] = [:]
    var words: [String] = []

    init(_ arguments: [String]) throws {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            if argument == "--keep" {
                values[argument] = ""
            } else if Self.named.contains(argument), let value = rest.popFirst() {
                values[argument] = value
            } else if argument.hasPrefix("-") {
                throw DrawError(
                    found: "\(argument) without a value, or unknown", expected: "one of these", remedy: "\n\(Self.usage)")
            } else {
                words.append(argument)
            }
        }
        guard words.count == (values["--check"] == nil ? 2 : 1) else {
            throw DrawError(found: "\(words.count) words", expected: "a bundle and a prompt in quotes", remedy: "\n\(Self.usage)")
        }
    }

    func number<Number: FixedWidthInteger>(_ name: String, default value: Number) throws -> Number {
        guard let text = values[name] else { return value }
        guard let number = Number(text), number >= 0 else {
            throw DrawError(found: "\(name) \(text)", expected: "a whole number", remedy: "e.g. \(name) 10")
        }
        return number
    }
}

/// Linear between the nearest ranks, as numpy's default.
func percentile(_ percent: Double, of values: [Double]) -> Double {
    let sorted = values.sorted()
    let place = percent / 100 * Double(sorted.count - 1)
    let (low, high) = (sorted[Int(place)], sorted[min(Int(place) + 1, sorted.count - 1)])
    return low + (high - low) * (place - place.rounded(.down))
}

func show(_ title: String, _ drawings: [Drawing]) {
    var seconds: [String: [Double]] = ["whole picture": drawings.map(\.seconds)]
    for timing in drawings.flatMap(\.timings) {
        seconds["\(timing.role) \(timing.phase.rawValue)", default: []].append(timing.seconds)
    }
    print(title)
    for (name, values) in seconds.sorted(by: { $0.key < $1.key }) {
        let (p50, p90) = (percentile(50, of: values) * 1e3, percentile(90, of: values) * 1e3)
        print("  \(name)", String(format: "p50 %.1f ms, p90 %.1f ms (%d)", p50, p90, values.count), separator: ": ")
    }
}

/// Exit status: 0 done; 1 the check failed.
func run(_ request: Request) async throws -> Int32 {
    let start = ContinuousClock.now
    let pipeline = try await Pipeline(folder: URL(filePath: request.words[0]), keepsLoaded: request.values["--keep"] != nil)
    if let file = request.values["--check"] {
        let (passed, lines) = try await Reference(file: URL(filePath: file)).check(pipeline)
        lines.forEach { print($0) }
        return passed ? 0 : 1
    }
    let opened = start.duration(to: .now) / .seconds(1)
    let noise = try request.values["--noise"].map { try Noise.read(URL(filePath: $0)) }
    let seed = try request.number("--seed", default: UInt64(0))
    let steps: Int? = try request.values["--steps"] == nil ? nil : request.number("--steps", default: 0)
    let first = try await pipeline.draw(request.words[1], noise: noise, seed: seed, steps: steps)
    let out = URL(filePath: request.values["-o"] ?? "picture.png")
    try first.picture.writePNG(to: out)
    print(out.path)
    print(String(format: "opened in %.1f ms (manifest and tokenizer)", opened * 1e3))
    show(first.timings.contains { $0.phase == .compile } ? "first picture, cold" : "first picture, compiled before", [first])
    var drawings: [Drawing] = []
    let runs = try request.number("--runs", default: 0)
    for _ in 0..<runs {
        drawings.append(try await pipeline.draw(request.words[1], noise: noise, seed: seed, steps: steps))
    }
    if !drawings.isEmpty { show("\(drawings.count) more, warm", drawings) }
    return 0
}

do {
    exit(try await run(Request(Array(CommandLine.arguments.dropFirst()))))
} catch {
    FileHandle.standardError.write(Data("sprint-draw: \(error.localizedDescription)\n".utf8))
    exit(2)
}
