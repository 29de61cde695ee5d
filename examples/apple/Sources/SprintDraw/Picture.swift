import CoreGraphics
import Foundation
import ImageIO
import UniformTypeIdentifiers

/// An 8-bit picture: red, green, blue, row by row.
public struct Picture: Equatable, Sendable {
    public let width, height: Int
    public let pixels: [UInt8]

    /// From float [1, 3, H, W] in [-1, 1], clipped and rounded as `to_uint8` of sprint_export/session.py does it.
    init(image: [Float], shape: [Int]) throws {
        guard shape.count == 4, shape[0] == 1, shape[1] == 3, image.count == shape.reduce(1, *) else {
            throw DrawError(
                found: "\(image.count) values as \(shape)", expected: "[1, 3, H, W]", remedy: "export the bundle again")
        }
        guard image.allSatisfy(\.isFinite) else {
            throw DrawError(
                found: "infinities or NaN in the picture", expected: "numbers",
                remedy: "export for another compute unit, and report the device and its system")
        }
        let area = shape[2] * shape[3]
        var pixels = [UInt8](repeating: 0, count: 3 * area)
        for channel in 0..<3 {
            for place in 0..<area {
                let unit = min(max(image[channel * area + place] * 0.5 + 0.5, 0), 1)
                pixels[3 * place + channel] = UInt8((unit * 255).rounded(.toNearestOrEven))
            }
        }
        (height, width, self.pixels) = (shape[2], shape[3], pixels)
    }

    public func makeImage() throws -> CGImage {
        guard let space = CGColorSpace(name: CGColorSpace.sRGB), let provider = CGDataProvider(data: Data(pixels) as CFData),
            let image = CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24, bytesPerRow: 3 * width, space: space,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: provider, decode: nil,
                shouldInterpolate: false, intent: .defaultIntent)
        else {
            throw DrawError(found: "no CGImage for \(width) x \(height)", expected: "one", remedy: "report the system's version")
        }
        return image
    }

    public func writePNG(to file: URL) throws {
        let image = try makeImage()
        guard let png = CGImageDestinationCreateWithURL(file as CFURL, UTType.png.identifier as CFString, 1, nil) else {
            throw DrawError(
                found: "\(file.path), which cannot be written", expected: "a file name", remedy: "choose another folder")
        }
        CGImageDestinationAddImage(png, image, nil)
        guard CGImageDestinationFinalize(png) else {
            throw DrawError(
                found: "a failure while writing \(file.path)", expected: "a PNG", remedy: "see whether the disk is full")
        }
    }

    /// Peak signal to noise, in decibels, against pixels of the same layout; infinite where all are equal.
    func psnr(against other: [UInt8]) throws -> Double {
        guard other.count == pixels.count else {
            throw DrawError(
                found: "\(other.count) bytes", expected: "\(pixels.count)", remedy: "make the reference from this bundle")
        }
        let squares = zip(pixels, other).reduce(0.0) { sum, pair in
            let difference = Double(pair.0) - Double(pair.1)
            return sum + difference * difference
        }
        return 10 * log10(255 * 255 * Double(pixels.count) / squares)
    }
}
