# frozen_string_literal: true

require "support/karafka_app"
require "support/on_real_kafka"

# On the newest version for this Ruby: what becomes of a node that was struck is looked at for each version by the other
# specs; here all of it happens together, and what is counted is messages.
RSpec.describe "a Karafka swarm in chaos", :karafka, :kafka, :test_gems, :real_kafka do
  # `bin/chaos --karafka` does the same for ten minutes.
  it "processes every message at least once, whatever is killed, frozen and stopped, its supervisor too" do
    seed = Random.new_seed % 1_000_000
    arguments = ["--seconds", "12", "--messages", "4000", "--seed", seed.to_s, "--nodes", "3",
                 "--servers", bootstrap_servers, "--partitions", OnRealKafka::PARTITIONS.to_s]
    result = run_ruby(%(load "#{ROOT}/chaos/karafka/main.rb"), args: arguments, env: test_gems_env, deadline: 120)
    expect(result.out).to include("everything adds up").and match(/supervisor 1/)
    expect(result.status.exitstatus).to eq(0)
  end
end
