import Foundation

/// What this package refuses: what was found, what was expected, what to do.
public struct DrawError: LocalizedError, Equatable {
    public let found, expected, remedy: String

    public init(found: String, expected: String, remedy: String) {
        (self.found, self.expected, self.remedy) = (found, expected, remedy)
    }

    public var errorDescription: String? { "found \(found); expected \(expected); \(remedy)" }
}
