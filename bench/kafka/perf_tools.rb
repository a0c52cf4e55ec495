# frozen_string_literal: true

require "open3"
require_relative "../../spec/support/real_kafka"

# The programs that Kafka itself comes with to measure a broker and its Java client.
class PerfTools
  TOOLS = { "org.apache.kafka" => ["kafka-tools", RealKafka::VERSION] }.freeze
  private_constant :TOOLS

  def initialize(servers)
    @servers = servers
    @class_path = RealKafka.class_path("kafka-tools", TOOLS)
  end

  # @return [Float] messages a second
  def produce(topic, count)
    output = run("ProducerPerformance", "--topic", topic, "--num-records", count.to_s, "--record-size", "100",
                 "--throughput", "-1", "--producer-props", "bootstrap.servers=#{@servers}")
    Float(output[/^#{count} records sent, ([0-9.]+) records\/sec/, 1])
  end

  # @return [Float] messages a second, from the first fetch on
  def consume(topic, count)
    output = run("ConsumerPerformance", "--topic", topic, "--messages", count.to_s, "--bootstrap-server", @servers,
                 "--timeout", "60000")
    heads, figures = output.lines(chomp: true).each_cons(2).find { |line,| line.start_with?("start.time") }
    Float(heads.split(", ").zip(figures.split(", ")).to_h.fetch("fetch.nMsg.sec"))
  end

  private

  def run(program, *arguments)
    output, status = Open3.capture2e("java", "-Xmx512m", "-cp", @class_path, "org.apache.kafka.tools.#{program}", *arguments)
    status.success? ? output : raise("#{program} failed:\n#{output}")
  end
end
