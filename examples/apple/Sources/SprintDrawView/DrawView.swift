import SprintDraw
import SwiftUI

/// A text field, a button, the picture and how long it took.
public struct DrawView: View {
    private let folder: URL
    @State private var pipeline: Pipeline?
    @State private var prompt = "a red circle above a blue square"
    @State private var status = ""
    @State private var image: CGImage?
    @State private var isBusy = false

    /// - Parameter folder: a bundle, e.g. `Bundle.main.url(forResource: "bundle", withExtension: nil)`.
    public init(folder: URL) { self.folder = folder }

    public var body: some View {
        VStack {
            TextField("What to draw", text: $prompt).textFieldStyle(.roundedBorder)
            Button("Draw") { Task { await draw() } }.disabled(isBusy || prompt.isEmpty)
            if let image {
                Image(image, scale: 1, label: Text(prompt)).resizable().scaledToFit()
            }
            Text(status).font(.footnote).textSelection(.enabled)
        }
        .padding()
    }

    @MainActor
    private func opened() async throws -> Pipeline {
        if let pipeline { return pipeline }
        let opened = try await Pipeline(folder: folder)
        pipeline = opened
        return opened
    }

    @MainActor
    private func draw() async {
        isBusy = true
        defer { isBusy = false }
        status = "drawing; the first time on a device compiles, which may take minutes"
        do {
            let pipeline = try await opened()
            let drawing = try await pipeline.draw(prompt, seed: .random(in: 0...UInt64.max))
            image = try drawing.picture.makeImage()
            let parts = drawing.timings.map { String(format: "\($0.role) \($0.phase.rawValue) %.2f s", $0.seconds) }
            status = String(format: "%.2f s: ", drawing.seconds) + parts.joined(separator: ", ")
        } catch {
            status = error.localizedDescription
        }
    }
}
