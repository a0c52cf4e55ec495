# frozen_string_literal: true

require "tmpdir"
require_relative "certificates"
require_relative "real_kafka"

# A real Kafka that asks who is there: by TLS, and by a name and a password. Its plain listener is the superuser's.
class SecureKafka
  # Names and passwords of users, by mechanism.
  USERS = { "PLAIN" => %w[bob bob's-secret], "SCRAM-SHA-256" => %w[alice alice's-secret] }.freeze
  LOGIN = "org.apache.kafka.common.security"
  private_constant :LOGIN

  def initialize
    @folder = Dir.mktmpdir("secure-kafka")
    ours = Certificates.new("ours")
    @ca = keep("ca.pem", ours.authority)
    @other_ca = keep("other.pem", Certificates.new("theirs").authority)
    @server = keep("server.pem", ours.pair("broker"))
    # Java takes the first certificate as the client's, and OpenSSL too; each finds the key beside it.
    @client = keep("client.pem", ours.pair("carol"))
  end

  def start
    user, password = USERS.fetch("SCRAM-SHA-256")
    @kafka = RealKafka.start(partitions: 1, memory: "256m", properties: properties,
                             listeners: { "TLS" => "SSL", "PASSWORD" => "SASL_SSL" },
                             format: ["--add-scram", "SCRAM-SHA-256=[name=#{user},password=#{password}]"])
    self
  end

  def stop
    @kafka&.stop
  ensure
    FileUtils.rm_rf(@folder)
  end

  # @return [Hash] the configuration of the superuser's client
  def superuser = { "bootstrap.servers": @kafka.bootstrap_servers }

  # @return [Hash] of a client that shows a certificate
  def tls(ca: @ca)
    { "bootstrap.servers": @kafka.servers("TLS"), "security.protocol": "SSL", "ssl.ca.location": ca,
      "ssl.certificate.location": @client, "ssl.key.location": @client }
  end

  # @param mechanism [String] one of {USERS}
  # @return [Hash] of a client that gives a password
  def sasl(mechanism, password: USERS.fetch(mechanism)[1])
    { "bootstrap.servers": @kafka.servers("PASSWORD"), "security.protocol": "SASL_SSL", "ssl.ca.location": @ca,
      "sasl.mechanisms": mechanism, "sasl.username": USERS.fetch(mechanism)[0], "sasl.password": password }
  end

  # @return [String] of an authority that has signed nothing here
  attr_reader :other_ca

  private

  def keep(name, text)
    File.join(@folder, name).tap { |path| File.write(path, text, perm: 0o600) }
  end

  def properties
    bob, password = USERS.fetch("PLAIN")
    { "ssl.keystore.type" => "PEM", "ssl.keystore.location" => @server, "ssl.truststore.type" => "PEM",
      "ssl.truststore.location" => @ca, "listener.name.tls.ssl.client.auth" => "required",
      "sasl.enabled.mechanisms" => USERS.keys.join(","),
      "listener.name.password.plain.sasl.jaas.config" => %(#{LOGIN}.plain.PlainLoginModule required user_#{bob}="#{password}";),
      "listener.name.password.scram-sha-256.sasl.jaas.config" => "#{LOGIN}.scram.ScramLoginModule required;",
      "authorizer.class.name" => "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
      "super.users" => "User:ANONYMOUS", "allow.everyone.if.no.acl.found" => true }
  end
end
