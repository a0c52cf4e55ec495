# frozen_string_literal: true

require "spec_helper"

# Every public call of the Kafka client stands in docs/kafka.md, in the part about its class, and in sig/.
RSpec.describe "docs/kafka.md and sig/" do
  next unless SwarmNative::Kafka.available?

  root = File.expand_path("../..", __dir__)
  page = File.read(File.join(root, "docs/kafka.md"))
  signatures = Dir[File.join(root, "sig/swarm_native/kafka*.rbs")].map { |path| File.read(path) }.join

  kafka = SwarmNative::Kafka
  # The classes, with the heading of the part that is about them.
  parts = {
    kafka::Producer => "Producer", kafka::Delivery => "Producer", kafka::Deliveries => "Producer",
    kafka::Consumer => "Consumer", kafka::Batch => "Consumer", kafka::Message => "Consumer",
    kafka::Processor => "Processor: without Karafka", kafka::Processor::Batch => "Processor: without Karafka",
    kafka::Processor::Event => "Processor: without Karafka", kafka::Lazy => "Processor: without Karafka",
    kafka::Admin => "Admin", kafka::EmbeddedBroker => "EmbeddedBroker", kafka::Error => "Errors"
  }
  kafka::Admin.constants.map { |name| kafka::Admin.const_get(name) }.grep(Class).each { |value| parts[value] = "Admin" }

  # What every object answers to; and what the code says is not for users.
  everywhere = %i[inspect to_s message each length == eql? hash]
  internal = {
    kafka::Producer => %i[rest], kafka::Processor => %i[stopped_at ending? heard? tell],
    kafka.singleton_class => %i[scheduled? wait made_at]
  }
  internal.default = [].freeze

  # @return [Array<Symbol>]
  calls_of = lambda do |type|
    ours = type.ancestors.take_while { |ancestor| ![Object, Struct, SwarmNative::Error].include?(ancestor) }
    calls = ours.select { |ancestor| ancestor.name.to_s.start_with?("SwarmNative::Kafka") }
                .flat_map { |ancestor| ancestor.public_instance_methods(false) }.uniq
    # Values are frozen.
    calls -= type.members.map { |member| :"#{member}=" } if type < Struct
    calls - everywhere - internal[type]
  end

  names = ->(text, call) { text.match?(/(?<!\w)#{Regexp.escape(call.to_s)}(?![\w?=])/) }

  it "know every class" do
    found = kafka.constants.reject { |name| kafka.autoload?(name) }.map { |name| kafka.const_get(name) }.grep(Class)
    found -= [kafka.const_get(:MockCluster)]
    expect(found - parts.keys).to eq []
  end

  parts.each do |type, heading|
    it "have every call of #{type.name}" do
      part = page[/^## #{Regexp.escape(heading)}$.*?(?=^## |\z)/m]
      code = part.scan(/^```.*?^```|`[^`]+`/m).join(" ")
      calls = calls_of.call(type)
      expect(calls).not_to be_empty
      expect(calls.reject { |call| names.call(code, call) }).to eq []
      signed = signatures.scan(/(?:def|attr_reader|alias) (?:self\.)?([^\s:]+)/).flatten
      expect(calls.map(&:to_s) - signed).to eq []
    end
  end

  it "have every call of SwarmNative::Kafka itself" do
    calls = kafka.singleton_methods(false).reject { |call| call.start_with?("native_") } - internal[kafka.singleton_class]
    expect(calls).to include(:lazy)
    expect(calls.reject { |call| names.call(page, :"Kafka.#{call.to_s.delete_suffix("=")}") }).to eq []
    expect(calls.reject { |call| signatures.include?("def self.#{call}:") }).to eq []
  end
end
