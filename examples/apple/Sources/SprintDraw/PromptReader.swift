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

/// Prompts to token ids, as `PromptReader` of sprint_export/prompt_reader.py does it.
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

    /// Token ids [tokens], or those after a prefix that is held, and the mask of the kept positions [keep].
    func read(_ prompt: String) throws -> (ids: [Int32], mask: [Int32]) {
        let cased = plan.lower ? prompt.lowercased() : prompt
        let text = plan.strips ? cased.trimmingCharacters(in: .whitespacesAndNewlines) : cased
        let whole = encoder.encode(plan.prefix + text + plan.suffix)
        let found = plan.cuts ? Array(whole.prefix(plan.tokens)) : whole
        guard found.starts(with: plan.prefixIds) else {
            throw DrawError(
                found: "a prompt that the tokenizer joins to the end of the instruction", expected: "the instruction's own tokens",
                remedy: "begin the prompt with another character, or export with --no-prefix-cache")
        }
        let padding = plan.tokens - found.count
        guard padding >= 0 else {
            throw DrawError(
                found: "a prompt of \(found.count - plan.tokens + plan.last) tokens", expected: "at most \(plan.last)",
                remedy: "shorten it, or export with a larger --prompt-tokens")
        }
        let ids = found.map { Int32($0) } + Array(repeating: Int32(plan.padId), count: padding)
        let mask = Array(repeating: Int32(1), count: found.count) + Array(repeating: Int32(0), count: padding)
        return (Array(ids.dropFirst(plan.prefixIds.count)), (plan.keepsFirst ? [mask[0]] : []) + mask.suffix(plan.last))
    }
}
