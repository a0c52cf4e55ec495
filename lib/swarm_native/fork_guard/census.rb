# frozen_string_literal: true

module SwarmNative
  module ForkGuard
    # Who is live, for people: takes its time, and is asked only once something is.
    module Census
      # The thread that each handle of librdkafka has.
      MAIN_THREAD = "rdk:main"
      # A thread has the name of the one that made it until it gives itself its own: those of brokers begin as main ones.
      # So where there are more of them than handles are known, it is looked again for so long.
      LOOKS = 10
      PAUSE = 0.005
      private_constant :MAIN_THREAD, :LOOKS, :PAUSE

      class << self
        # @return [Array<LiveHandle>]
        def take
          ours = Core.own_handles.map { |fields| own(*fields) }
          named = Rdkafka.live
          ours + named + nameless(ours, named)
        end

        private

        def own(class_name, name, made_at, phase, since)
          LiveHandle.new(class_name: class_name, name: name, made_at: (made_at unless made_at.empty?), phase: phase,
                         since: Time.at(since))
        end

        # Handles that have no Ruby object: only their library and their threads tell of them.
        def nameless(ours, named)
          copies = Core.live_copies
          return [] if copies.empty?

          known = named.size + ours.count { |handle| handle.class_name.start_with?("SwarmNative::Kafka::") }
          threads = main_threads(known)
          count = [threads.size - known, named.empty? ? 1 : 0].max
          origin = origin_of(copies, threads, certain: threads.size == count)
          Array.new(count) { |i| LiveHandle.new(class_name: "librdkafka handle that is not ours", origin: origin[i]) }
        end

        def main_threads(known)
          found = nil
          LOOKS.times do
            sleep PAUSE if found
            mains = Core.librdkafka_threads.filter_map { |number, name| number if name == MAIN_THREAD } - ruby_threads
            found = found ? found & mains : mains
            break if found.size <= known
          end
          found
        end

        def ruby_threads
          ForkGuard.send(:ruby_threads)
        end

        # A thread can be told to belong to a handle only where no other handle could have it.
        def origin_of(copies, threads, certain:)
          files = copies.map { |path| path.empty? ? "the program itself" : path }.uniq.join(" or ")
          all = "of #{files}, one of the threads #{MAIN_THREAD} #{threads.join(', ')}"
          all = "of #{files}" if threads.empty?
          Hash.new { |_, i| certain ? "of #{files}, thread #{MAIN_THREAD} #{threads[i]}" : all }
        end
      end
    end
    private_constant :Census
  end
end
