# frozen_string_literal: true

require "spec_helper"
require "swarm_native/fork_guard/rspec"

RSpec.describe "the matcher be_fork_safe" do
  let(:lease) { SwarmNative::ForkGuard::Lease.take("Some::Producer", "p-1", "app.rb:3") }

  after { lease.release }

  it "passes where nothing is live when the block has ended" do
    expect { lease.release }.to be_fork_safe
  end

  it "fails where something is, and names it" do
    expect { expect { lease }.to be_fork_safe }
      .to raise_error(RSpec::Expectations::ExpectationNotMetError, <<~TEXT.chomp)
        expected the process to be fork-safe afterwards, but this is live:
          Some::Producer p-1 (made at app.rb:3)
      TEXT
  end

  it "can be negated" do
    expect { lease }.not_to be_fork_safe
    lease.release
    expect { expect { 1 }.not_to be_fork_safe }
      .to raise_error(RSpec::Expectations::ExpectationNotMetError, /expected a librdkafka handle to be live/)
  end

  it "lets what the block raises through" do
    expect { expect { raise "boot failed" }.to be_fork_safe }.to raise_error(RuntimeError, "boot failed")
  end
end
