import Foundation

/// Tokenizers of the type WordLevel, which swift-transformers does not know: the embedded student `sprint-tiny` has one.
///
/// Covered, all read from tokenizer.json: a literal Replace, WhitespaceSplit and isolating Splits, a template around the words.
/// Anything else is refused. Special tokens in a prompt count only as words of their own.
struct WordLevel: TokenEncoder {
    private enum Cut { case whitespace, isolate(String) }

    private let replace: (from: String, to: String)?
    private let cuts: [Cut]
    private let template: [[Int]?]  // ids of a special token; nil: the words
    private let vocabulary: [String: Int]
    private let unknown: Int?

    init(file: TokenizerFile) throws {
        func refuse(_ found: String) -> DrawError {
            DrawError(
                found: "\(found) in a WordLevel tokenizer.json", expected: "Replace, WhitespaceSplit, Split, TemplateProcessing",
                remedy: "add it to WordLevel.swift")
        }
        switch file.normalizer {
        case nil: replace = nil
        case let step? where step.type == "Replace":
            guard let from = step.pattern?.text, let to = step.content else { throw refuse("a Replace of a pattern") }
            replace = (from, to)
        case let step?: throw refuse("the normalizer \(step.type)")
        }
        let steps = file.splitter.map { $0.type == "Sequence" ? $0.pretokenizers ?? [] : [$0] } ?? []
        cuts = try steps.map { step -> Cut in
            if step.type == "WhitespaceSplit" { return .whitespace }
            let text = step.pattern?.text ?? ""
            guard step.type == "Split", step.behavior == "Isolated", step.invert != true, !text.isEmpty else {
                throw refuse("the pre-tokenizer \(step.type)")
            }
            return .isolate(text)
        }
        let pieces = file.template?.single ?? [TokenizerFile.Piece(token: nil)]
        template = try pieces.map { piece -> [Int]? in
            guard let name = piece.token?.id else { return nil }
            guard let special = file.template?.specialTokens[name] else { throw refuse("the unknown special token \(name)") }
            return special.ids
        }
        vocabulary = file.model.vocabulary
        unknown = file.model.unknown.flatMap { file.model.vocabulary[$0] }
    }

    func encode(_ text: String) -> [Int] {
        var words = [replace.map { text.replacingOccurrences(of: $0.from, with: $0.to, options: .literal) } ?? text]
        for cut in cuts { words = words.flatMap { apply(cut, to: $0) } }
        let ids = words.compactMap { vocabulary[$0] ?? unknown }
        return template.flatMap { $0 ?? ids }
    }

    private func apply(_ cut: Cut, to text: String) -> [String] {
        switch cut {
        case .whitespace:
            return text.unicodeScalars.split { $0.properties.isWhitespace }.map { String($0) }
        case .isolate(let separator):
            let pieces = text.components(separatedBy: separator)
            return pieces.enumerated().flatMap { $0.offset == 0 ? [$0.element] : [separator, $0.element] }.filter { !$0.isEmpty }
        }
    }
}

/// As much of a WordLevel tokenizer.json as `WordLevel` reads.
struct TokenizerFile: Decodable {
    struct Pattern: Decodable {
        let text: String?
        enum CodingKeys: String, CodingKey { case text = "String" }
    }

    struct Step: Decodable {
        let type: String
        let pattern: Pattern?
        let content: String?
        let behavior: String?
        let invert: Bool?
        let pretokenizers: [Step]?
    }

    struct Piece: Decodable {
        struct Token: Decodable { let id: String }
        let token: Token?
        enum CodingKeys: String, CodingKey { case token = "SpecialToken" }
    }

    struct Template: Decodable {
        struct Special: Decodable { let ids: [Int] }
        let single: [Piece]
        let specialTokens: [String: Special]
        enum CodingKeys: String, CodingKey { case single, specialTokens = "special_tokens" }
    }

    struct Model: Decodable {
        let vocabulary: [String: Int]
        let unknown: String?
        enum CodingKeys: String, CodingKey { case vocabulary = "vocab", unknown = "unk_token" }
    }

    let normalizer: Step?
    let splitter: Step?
    let template: Template?
    let model: Model
    enum CodingKeys: String, CodingKey {
        case normalizer, model, splitter = "pre_tokenizer", template = "post_processor"
    }
}

/// Only the type of the model: `null` in some old files, which are BPE.
struct TokenizerKind: Decodable {
    struct Model: Decodable { let type: String? }
    let model: Model
}
