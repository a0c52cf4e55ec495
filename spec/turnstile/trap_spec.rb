# frozen_string_literal: true

require "spec_helper"

# A handler interrupts what the main thread waits for, and the VM notes that it was asleep and has it asleep again
# afterwards. Whoever wakes it while the handler has given the GVL away does so in vain.
RSpec.describe "SwarmNative::Turnstile in a trap handler" do
  next unless SwarmNative::Kafka.available?

  it "loses no wake-up of the sleep that the handler has interrupted" do
    result = run_ruby(<<~'RUBY', deadline: 60)
      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

      SwarmNative::Kafka.turnstile = { nudge_interval: 0.000_2 }
      consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "g")
      asleep = trapped = false
      # Much less than the 100 ms after which Ruby itself takes the GVL away; a poll ends meanwhile.
      trap("USR1") do
        trapped = true
        from = now
        200.times { |at| at * at } while now - from < 0.02
      end
      poller = Thread.new do
        loop do
          consumer.poll(0.005)
          Thread.main.wakeup if trapped
          trapped = false
        end
      end
      slept = 20.times.map do
        signal = Thread.new do
          wait_until { asleep && Thread.main.stop? }
          # From elsewhere: this thread is to sleep when the handler runs.
          Process.spawn("kill -USR1 #{Process.pid}")
        end
        asleep = true
        from = now
        sleep 5
        took = now - from
        asleep = false
        Process.wait(signal.value)
        took
      end
      poller.kill.join
      # One that works: beside it the wake-ups of polls are nudges.
      spinner = Thread.new { loop { 200.times { |at| at * at } } }
      20.times { consumer.poll(0.001) }
      spinner.kill
      puts SwarmNative::Turnstile.stats.nudges.positive?, slept.count { |took| took > 4 }
    RUBY
    nudged, lost = result.out.split
    expect(nudged).to eq("true"), result.inspect
    # All were; now only where a busy machine lets the handler run for so long that Ruby itself has others run meanwhile.
    expect(lost.to_i).to be <= 2, result.inspect
    expect(result.err).to eq("")
  end

  it "has a main thread step aside that runs no handler, whatever its methods are called" do
    result = run_ruby(<<~'RUBY', deadline: 60)
      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

      SwarmNative::Kafka.turnstile = { budget: 0.5, nudge_interval: 0.000_2 }
      consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "g")
      polls = 0
      poller = Thread.new { loop { consumer.poll(0.002); polls += 1 } }
      def sleep(seconds)
        due = now + seconds
        # The block of `each` runs on top of the enumerator's own `<<`.
        Enumerator.new { |all| all << 200 }.each { |count| count.times { |at| at * at } while now < due }
      end
      sleep 1
      poller.kill.join
      puts polls
    RUBY
    # In plain Ruby ten: whoever comes back waits for 100 ms.
    expect(result.out.to_i).to be > 40, result.inspect
  end
end
