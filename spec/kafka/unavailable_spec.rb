# frozen_string_literal: true

require "spec_helper"

RSpec.describe "SwarmNative::Kafka in a build without its cargo feature" do
  it "says why a class is not there, and how to get it" do
    result = run_ruby(<<~'RUBY', library: nil, args: [File.dirname($LOADED_FEATURES.grep(%r{swarm_native/kafka\.rb\z})[0])])
      require "#{ARGV[0]}/errors"
      require "#{ARGV[0]}/kafka/unavailable"
      begin
        SwarmNative::Kafka::Producer.new
      rescue SwarmNative::Error => e
        puts e.message
      end
      begin
        SwarmNative::Kafka::Nonsense
      rescue NameError => e
        puts e.message
      end
    RUBY
    expect(result.out).to start_with("SwarmNative::Kafka::Producer is not here: this karafka_swarm was built without"), result.inspect
    expect(result.out).to include("uninitialized constant SwarmNative::Kafka::Nonsense"), result.inspect
  end
end
