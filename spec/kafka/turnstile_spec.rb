# frozen_string_literal: true

require "spec_helper"

RSpec.describe "the turnstile of SwarmNative::Kafka" do
  next unless SwarmNative::Kafka.available?

  # What the turnstile is after the code, which makes clients.
  def after(code)
    result = run_ruby(<<~RUBY, deadline: 20)
      Kafka = SwarmNative::Kafka
      Turnstile = SwarmNative::Turnstile
      def client(kind = :Producer, **more) = Kafka.const_get(kind).new("bootstrap.servers": "127.0.0.1:1", **more).close(0)
      #{code}
      puts Turnstile.enabled?, Turnstile.explain
    RUBY
    expect([result.success?, result.err]).to eq([true, ""]), result.inspect
    result.out.lines(chomp: true)
  end

  it "is on from the first producer or consumer on" do
    expect(after("").first).to eq "false"
    expect(after("client").first).to eq "true"
    expect(after('client(:Consumer, "group.id": "g")').first).to eq "true"
  end

  it "is left off, or set, as the application says" do
    expect(after("Kafka.turnstile = false\nclient").first).to eq "false"
    expect(after("Kafka.turnstile = { budget: 0.2 }\nclient")).to match ["true", /budget 0.2/]
    expect(after("Turnstile.enable(budget: 0.3)\nclient")).to match ["true", /budget 0.3/]
    expect(after("client\nTurnstile.disable\nclient").first).to eq "false"
  end

  it "is on in a forked process that has a client of its own" do
    expect(after(<<~RUBY).first).to eq "true"
      client
      Turnstile.disable
      Process.wait(fork { client; puts Turnstile.enabled? })
    RUBY
  end

  it "knows no other settings" do
    expect { SwarmNative::Kafka.turnstile = "on" }.to raise_error(ArgumentError, /turnstile: "on" given, allowed: true, false/)
    expect(SwarmNative::Kafka.turnstile).to be true
  end
end
