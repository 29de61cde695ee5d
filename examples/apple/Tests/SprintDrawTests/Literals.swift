/// What the Python package computes from the fixture; tests/test_apple_example.py holds every line against it.
enum Literals {
    static let prompt: String = "  A RED purple,circle\n"
    static let ids: [Int32] = [4, 5, 6, 3, 11, 7, 0]
    static let mask: [Int32] = [1, 1, 1, 1, 1, 1, 1, 0]
    static let longPrompt: String = "a red circle above a blue square, a red circle above a blue square"
    static let longIds: [Int32] = [4, 5, 6, 7, 8, 5, 9]

    /// Two steps; the network in the place of the real one gives x / 2 + step.
    static let times: [Double] = [1.0000036732185957, 0.782708009805053]
    static let noise: [Float] = [0.5, -1.25, 2.0, -0.75, 0.125, 1.5]
    static let sampled: [Float] = [0.7336461, 0.98101526, 1.6956774]

    /// Two rows of three pixels: red, then green, then blue.
    static let image: [Float] = [
        -1.2, -1.0, -0.5, 0.0, 0.498, 1.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.5, 0.9, -0.9, -0.1, -0.2, 0.004,
    ]
    static let pixels: [UInt8] = [0, 140, 255, 0, 153, 242, 64, 166, 13, 128, 178, 115, 191, 191, 102, 255, 204, 128]
}
