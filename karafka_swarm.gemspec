# frozen_string_literal: true

require_relative "lib/swarm_native/version"

Gem::Specification.new do |spec|
  spec.name = "karafka_swarm"
  spec.version = SwarmNative::VERSION
  spec.summary = "The native process layer for Ruby apps that consume Kafka"
  spec.description = <<~TEXT
    Forks, watches, restarts, stops and reaps Ruby processes from a Rust event loop; refuses a fork while a librdkafka
    handle is live; gives Kafka handles that stay fast when the Ruby VM is busy. A drop-in for Karafka's swarm.
  TEXT
  spec.authors = ["The karafka_swarm authors"]
  spec.license = "MIT"
  spec.required_ruby_version = ">= 3.1"
  spec.files = Dir["Cargo.{toml,lock}", "rustfmt.toml", "LICENSE", "README.md", "CHANGELOG.md", "docs/**/*.md", "exe/*",
                   "ext/**/*.{rb,rs,toml}", "lib/**/*.rb", "sig/**/*.rbs", base: __dir__]
  spec.bindir = "exe"
  spec.executables = Dir.children(File.join(__dir__, "exe")).sort if Dir.exist?(File.join(__dir__, "exe"))
  spec.require_paths = ["lib"]
  # The first builds nothing: it says what the second would miss. The third clears away what the second has left.
  spec.extensions = ["ext/preflight/extconf.rb", "ext/swarm_native/Cargo.toml", "ext/tidy/extconf.rb"]
  spec.metadata = { "cargo_crate_name" => "swarm_native", "rubygems_mfa_required" => "true" }
end
