# frozen_string_literal: true

require_relative "real_kafka"

# A real Kafka for the examples with the tag :real_kafka, which take it where others take the embedded broker: the one
# that the runner of the suite has started, or one for this process. Without Java and Maven they are skipped, in CI they
# fail.
module OnRealKafka
  # Topics come into being by their first use.
  PARTITIONS = 3

  class << self
    def servers
      @servers ||= ENV.fetch("SPEC_REAL_KAFKA") do
        @kafka = RealKafka.start(partitions: PARTITIONS)
        @kafka.bootstrap_servers
      end
    end

    def stop = @kafka&.stop

    def new_topic
      @count = (@count || 0) + 1
      "real-#{Process.pid}-#{@count}-#{rand(1 << 32)}"
    end
  end

  def bootstrap_servers = OnRealKafka.servers

  # @return [String] the name of a topic that nobody else uses, of 3 partitions
  def new_topic(**) = OnRealKafka.new_topic
end

RSpec.configure do |config|
  config.before(:each, :real_kafka) do
    extend OnRealKafka
    next if RealKafka.available?

    why = "needs Java and Maven, for a real Kafka"
    ENV["CI"] ? raise(why) : skip(why)
  end
  config.after(:suite) { OnRealKafka.stop }
end
