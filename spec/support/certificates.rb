# frozen_string_literal: true

require "openssl"

# Certificates for tests: an authority, made on the spot, and what it has signed.
class Certificates
  DAY = 86_400
  private_constant :DAY

  def initialize(name)
    @name = OpenSSL::X509::Name.new([["CN", name]])
    @key = OpenSSL::PKey::EC.generate("prime256v1")
    @serial = 0
    @certificate = certificate(@name, @key, ["basicConstraints", "CA:TRUE", true], ["keyUsage", "keyCertSign", true])
  end

  # @return [String] what a client trusts, as PEM
  def authority = @certificate.to_pem

  # @param name [String]
  # @return [String] a key and its certificates, as PEM, for a server at 127.0.0.1 or for a client
  def pair(name)
    key = OpenSSL::PKey::EC.generate("prime256v1")
    subject = OpenSSL::X509::Name.new([["CN", name]])
    signed = certificate(subject, key, ["subjectAltName", "IP:127.0.0.1"], ["basicConstraints", "CA:FALSE", true])
    [key.private_to_pem, signed.to_pem, authority].join
  end

  private

  # @param extensions [Array<Array>] name, value, and whether it is critical
  def certificate(subject, key, *extensions)
    made = OpenSSL::X509::Certificate.new
    made.version = 2
    made.serial = @serial += 1
    made.subject = subject
    made.issuer = @name
    made.public_key = key
    made.not_before = Time.now - DAY
    made.not_after = Time.now + DAY
    factory = OpenSSL::X509::ExtensionFactory.new(@certificate || made, made)
    extensions.each { |extension| made.add_extension(factory.create_extension(*extension)) }
    made.sign(@key, "SHA256")
  end
end
