import Foundation
import Tokenizers

/// A text as token ids, with the special tokens the model expects around it.
protocol TokenEncoder {
    func encode(_ text: String) -> [Int]
}

/// Any tokenizer swift-transformers reads, among them Gemma's.
struct HubEncoder: TokenEncoder {
    let tokenizer: any Tokenizer
    func encode(_ text: String) -> [Int] { tokenizer.encode(text: text) }
}

/// Prompts to token ids, as `PromptReader` of sprint_export/session.py does it.
struct PromptReader {
    let plan: PromptPlan
    let encoder: any TokenEncoder

    init(bundle: ModelBundle) async throws {
        let folder = bundle.folder.appending(path: "tokenizer")
        let file = folder.appending(path: "tokenizer.json")
        do {
            let data = try Data(contentsOf: file)
            if try JSONDecoder().decode(TokenizerKind.self, from: data).model.type == "WordLevel" {
                encoder = try WordLevel(file: JSONDecoder().decode(TokenizerFile.self, from: data))
            } else {
                encoder = try await HubEncoder(tokenizer: AutoTokenizer.from(modelFolder: folder))
            }
        } catch let error as DrawError {
            throw error
        } catch {
            throw DrawError(found: "\(file.path): \(error)", expected: "a tokenizer", remedy: "export the bundle again")
        }
        plan = bundle.manifest.prompt
    }

    /// Token ids [tokens] and the mask of the kept positions [keep].
    func read(_ prompt: String) -> (ids: [Int32], mask: [Int32]) {
        let text = (plan.lower ? prompt.lowercased() : prompt).trimmingCharacters(in: .whitespacesAndNewlines)
        let found = encoder.encode(plan.prefix + text).prefix(plan.tokens).map { Int32($0) }
        let padding = plan.tokens - found.count
        let ids = found + Array(repeating: Int32(plan.padId), count: padding)
        let mask = Array(repeating: Int32(1), count: found.count) + Array(repeating: Int32(0), count: padding)
        return (ids, [mask[0]] + mask.suffix(plan.keep - 1))
    }
}
