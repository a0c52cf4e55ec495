# frozen_string_literal: true

RSpec.describe "a consumer group of the embedded broker" do
  it "gives the partitions of a killed member to those that are left, within seconds" do
    result = run_ruby(<<~RUBY, deadline: 60)
      Consumer = SwarmNative::Kafka::Consumer
      SwarmNative::Kafka::EmbeddedBroker.start(topics: { "orders" => 4 }) do |broker|
        config = { "bootstrap.servers": broker.bootstrap_servers, "group.id": "bills", "group.protocol": "consumer" }
        partitions = lambda do |consumer|
          consumer.poll_batch(1, 0.05)
          consumer.assignment.fetch("orders", []).size
        end
        killed = fork do
          consumer = Consumer.new(config).subscribe("orders")
          loop { partitions.(consumer) }
        end
        consumer = Consumer.new(config).subscribe("orders")
        wait_until(20, "an equal share") { partitions.(consumer) == 2 }
        Process.kill(:KILL, killed)
        Process.wait(killed)
        before = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        wait_until(20, "all partitions") { partitions.(consumer) == 4 }
        puts Process.clock_gettime(Process::CLOCK_MONOTONIC) - before
        consumer.close
      end
    RUBY
    expect(result).to be_success, result.inspect
    # A session is 30 s where the broker is left with librdkafka's default.
    expect(result.out.to_f).to be < 15
  end
end
