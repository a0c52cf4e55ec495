# frozen_string_literal: true

require "support/karafka_app"

# With the newest version for this Ruby: the example uses nothing that differs.
RSpec.describe "examples/karafka", :test_gems do
  { "with the drop-in" => {}, "with plain Karafka" => { "PLAIN" => "1" } }.each do |how, env|
    it "runs #{how}" do
      SwarmNative::Kafka::EmbeddedBroker.start(topics: { "orders" => 6 }) do |broker|
        env = { "KAFKA" => broker.bootstrap_servers, "NODES" => "2", "KARAFKA_ENV" => "production",
                "KARAFKA_BOOT_FILE" => "false", **test_gems_env, **env }
        producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": broker.bootstrap_servers)
        20.times { producer.produce(topic: "orders", payload: "an order") }
        producer.close
        code = <<~RUBY
          $stdout.sync = true
          gem "karafka"
          require "#{ROOT}/examples/karafka/karafka.rb"
          ARGV.replace(["swarm"])
          Karafka::Cli.start
        RUBY
        result = run_ruby(code, env: env, deadline: 2 * KarafkaApp::PATIENCE) do |process|
          process.wait_for(/^node \d \(pid \d+\) consumed/, KarafkaApp::PATIENCE)
          process.signal("TERM")
        end
        expect(result.status.exitstatus).to eq(0)
      end
    end
  end
end
